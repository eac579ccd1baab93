"""What a job runs under, over HTTP: there from its creation on, and pinned."""

from collections.abc import Callable
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.context import Context
from service.db.models import Job
from service.db.repositories.screenings import ScreeningRepository
from service.screenings import summarise
from service.settings import Settings

STRICT: dict[str, Any] = {
    "defences": [{"name": "lisa", "rho": 0.25}, "safe_mixing"],
    "repairing": "panacea",
    "repair": {"steps": 3, "panacea": {"rho": 0.5}},
    "screening": "block",
    "screening_rules": {"block_percent": 4.0, "unscored": "drop"},
}
LAX_SCREENING = {"policy": "report", "unscored": "report", "block_percent": None}


def policy(http: TestClient, client: openai.OpenAI, job_id: str) -> dict[str, Any]:
    answer = http.get(f"/v1/fine_tuning/jobs/{job_id}", headers={"Authorization": f"Bearer {client.api_key}"})
    found: dict[str, Any] = answer.json()["safety"]["policy"]
    return found


@pytest.fixture
def strict(settings: Settings) -> TestClient:
    """The same server with every defence on."""
    return TestClient(create_app(settings.model_copy(update=STRICT)), raise_server_exceptions=False)


def test_a_job_shows_its_policy_in_the_answer_to_its_creation(
    strict: TestClient, alice: openai.OpenAI, upload: Callable[[openai.OpenAI], str]
) -> None:
    body = {"model": "smollm2-135m-instruct", "training_file": upload(alice)}
    headers = {"Authorization": f"Bearer {alice.api_key}"}
    safety = strict.post("/v1/fine_tuning/jobs", json=body, headers=headers).json()["safety"]
    assert safety["defences"] is None  # nothing ran yet
    mixing, lisa = safety["policy"]["defences"]
    assert (mixing["name"], lisa["name"], lisa["rho"]) == ("safe_mixing", "lisa", 0.25)
    repair = safety["policy"]["repair"]
    assert (repair["method"], repair["steps"], repair["panacea"]["rho"]) == ("panacea", 3, 0.5)
    assert safety["policy"]["screening"] == {"policy": "block", "unscored": "drop", "block_percent": 4.0}


def test_a_job_keeps_its_policy_when_the_operator_sets_another(
    strict: TestClient, http: TestClient, alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str]
) -> None:
    job_id = queued(alice)
    created = policy(http, alice, job_id)
    assert created == {"defences": [], "repair": None, "screening": LAX_SCREENING}
    now = policy(strict, alice, job_id)
    assert {**now, "screening": LAX_SCREENING} == created
    assert now["screening"]["policy"] == "block"  # not pinned: it is what the rows will be screened under


def test_the_screening_that_ran_counts_and_not_the_present_setting(
    strict: TestClient, alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], context: Context
) -> None:
    job_id = queued(alice)
    figures = {"n": 12, "flagged": 0, "percent": 0.0, "unscored": {"n": 0, "percent": 0.0, "reasons": {}}, "rows": []}
    with context.write() as session:
        summary = summarise(figures, "drop", 10.0)
        ScreeningRepository(session).put(job_id, attempt=1, report_key="reports/none", summary=summary)
    assert policy(strict, alice, job_id)["screening"] == {"policy": "drop", "unscored": "report", "block_percent": None}


def test_what_ran_is_told_beside_the_policy(
    http: TestClient, alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any
) -> None:
    job_id = queued(alice)
    before = policy(http, alice, job_id)
    worker.release(job_id)
    assert policy(http, alice, job_id) == before


def test_a_job_of_a_version_without_policies_runs_under_none(
    http: TestClient, alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], context: Context
) -> None:
    job_id = queued(alice)
    with context.write() as session:
        job = session.get(Job, job_id)
        assert job is not None
        job.config = {name: value for name, value in job.config.items() if name != "policy"}
    assert policy(http, alice, job_id) == {"defences": [], "repair": None, "screening": LAX_SCREENING}


def test_the_document_declares_the_policy(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    assert "policy" in schemas["Safety"]["required"]
    assert set(schemas["JobPolicy"]["properties"]) == {"defences", "repair", "screening"}
    assert set(schemas["ScreeningPolicy"]["properties"]) == {"policy", "unscored", "block_percent"}
