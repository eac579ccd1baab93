"""The safety report by its published schema: the owner's without texts, the admin's whole, nobody else's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from api.context import Context
from service.db.repositories.evaluations import EvaluationRepository
from service.releases import complete_release
from tests.safety_report import SECRET_ANSWER, full_report
from tvaccine_core.evaluation.report.document import parse_report

PICTURE = b"\x89PNG\r\n\x1a\n drawn by the worker"
OWNER, ADMIN = "/v1/fine_tuning/jobs/{}/safety_report", "/v1/admin/fine_tuning/jobs/{}/safety_report"
KINDS = ("", ".html", ".png")


@pytest.fixture
def store(context: Context, tmp_path: Path) -> Callable[..., str]:
    """Stores a report as a worker does; its key."""

    def keep(picture: bytes | None = PICTURE, **changes: Any) -> str:
        directory = tmp_path / "published"
        directory.mkdir(exist_ok=True)
        (directory / "report.json").write_text(json.dumps({**full_report(), **changes}))
        (directory / "report.png").unlink(missing_ok=True)
        if picture is not None:
            (directory / "report.png").write_bytes(picture)
        return context.store.put_tree("reports", directory).key

    return keep


@pytest.fixture
def scored(context: Context, alice: openai.OpenAI, queued: Any, worker: Any, store: Any) -> str:
    """A job of alice's that was scored."""
    job_id: str = queued(alice)
    claim = worker.claim(job_id)
    with context.write() as session:
        EvaluationRepository(session).add(job_id, attempt=1, verdict="fail", report_key=store(), summary={})
    assert claim.attempt == 1
    return job_id


Get = Callable[..., Any]


@pytest.fixture
def get(http: TestClient) -> Get:
    """Fetch a path with the key of a client."""

    def fetch(client: openai.OpenAI, path: str) -> Any:
        return http.get(path, headers={"Authorization": f"Bearer {client.api_key}"})

    return fetch


def test_the_owner_reads_numbers_and_no_texts(get: Get, alice: openai.OpenAI, scored: str) -> None:
    answer = get(alice, OWNER.format(scored))
    assert answer.status_code == 200
    assert "SECRET" not in answer.text
    report = answer.json()
    assert (report["schema"], report["redacted"], report["answers"]) == ("tvaccine.safety_report/1", True, [])
    assert report["harmful_score"] == full_report()["harmful_score"]
    assert report["checks"] == full_report()["checks"]
    assert report["training"] == full_report()["training"]
    assert report["examples"][0] == {
        "category": "fraud",
        "variant": "jailbreak_prefix",
        "score": 0.99,
        "length": len(SECRET_ANSWER),
    }
    assert parse_report(report).redacted


def test_the_owners_page_has_no_texts_and_may_run_nothing(get: Get, alice: openai.OpenAI, scored: str) -> None:
    answer = get(alice, OWNER.format(scored) + ".html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "Blocked: this model is not released" in answer.text
    assert scored in answer.text
    assert "SECRET" not in answer.text


def test_the_picture_is_the_stored_one(get: Get, alice: openai.OpenAI, admin: openai.OpenAI, scored: str) -> None:
    for client, path in ((alice, OWNER), (admin, ADMIN)):
        answer = get(client, path.format(scored) + ".png")
        assert (answer.headers["content-type"], answer.content) == ("image/png", PICTURE)


def test_an_admin_reads_everything(get: Get, admin: openai.OpenAI, scored: str) -> None:
    answer = get(admin, ADMIN.format(scored))
    assert answer.json() == full_report()
    assert SECRET_ANSWER in get(admin, ADMIN.format(scored) + ".html").text


def test_the_outcome_is_told_once_the_job_has_ended_that_way(
    get: Get, context: Context, alice: openai.OpenAI, admin: openai.OpenAI, queued: Any, worker: Any, store: Any
) -> None:
    job_id: str = queued(alice)
    key = store(verdict="pass", outcome="repaired_and_released")

    def outcomes() -> list[str | None]:
        own, whole = get(alice, OWNER.format(job_id)).json(), get(admin, ADMIN.format(job_id)).json()
        safety = get(alice, f"/v1/fine_tuning/jobs/{job_id}/safety").json()["report"]
        assert own["before_repair"] == safety["before_repair"] == full_report()["before_repair"]
        return [own["outcome"], whole["outcome"], safety["outcome"]]

    claim = worker.claim(job_id)
    sealed, sha256 = worker.quarantine(claim)
    with context.write() as session:
        EvaluationRepository(session).add(job_id, attempt=1, verdict="pass", report_key=key, summary={})
    assert outcomes() == [None] * 3
    assert "scored again and released" not in get(alice, OWNER.format(job_id) + ".html").text
    place = context.store.release(sealed, sha256)
    with context.write() as session:
        assert complete_release(session, claim, released_key=place, sha256=sha256, verdict={"verdict": "pass"})
    assert outcomes() == ["repaired_and_released"] * 3
    assert "scored again and released" in get(alice, OWNER.format(job_id) + ".html").text


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_else_sees_it(
    get: Get, bob: openai.OpenAI, alice: openai.OpenAI, admin: openai.OpenAI, http: TestClient, scored: str, kind: str
) -> None:
    own, whole = OWNER.format(scored) + kind, ADMIN.format(scored) + kind
    assert get(bob, own).status_code == 404
    assert get(admin, own).status_code == 404
    assert get(alice, whole).status_code == 403
    assert get(bob, whole).status_code == 403
    assert http.get(own).status_code == http.get(whole).status_code == 401


@pytest.mark.parametrize("kind", KINDS)
def test_before_a_scoring_there_is_none(
    get: Get, alice: openai.OpenAI, admin: openai.OpenAI, queued: Callable[[openai.OpenAI], str], kind: str
) -> None:
    job_id = queued(alice)
    for client, path in ((alice, OWNER), (admin, ADMIN)):
        answer = get(client, path.format(job_id) + kind)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        assert "scored" in answer.json()["error"]["message"]
        for unknown in ("ftjob-unknown", "a%00b"):
            assert get(client, path.format(unknown) + kind).json()["error"]["code"] == "not_found"


def test_a_report_of_an_earlier_version_is_under_safety_only(
    get: Get, alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any
) -> None:
    job_id = queued(alice)
    worker.block(job_id)
    for kind in KINDS:
        assert get(alice, OWNER.format(job_id) + kind).status_code == 404
    assert "/safety" in get(alice, OWNER.format(job_id)).json()["error"]["message"]
    assert get(alice, f"/v1/fine_tuning/jobs/{job_id}/safety").json()["report"]["verdict"] == "fail"


def test_the_newest_scoring_counts_and_a_picture_may_be_missing(
    get: Get, context: Context, alice: openai.OpenAI, scored: str, store: Callable[..., str]
) -> None:
    key = store(None, verdict="pass", reason="Better now.")
    with context.write() as session:
        EvaluationRepository(session).add(scored, attempt=2, verdict="pass", report_key=key, summary={})
    assert get(alice, OWNER.format(scored)).json()["reason"] == "Better now."
    answer = get(alice, OWNER.format(scored) + ".png")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "page" in answer.json()["error"]["message"]


def test_the_job_links_to_it_once_it_is_scored(
    alice: openai.OpenAI, get: Get, queued: Callable[[openai.OpenAI], str], worker: Any
) -> None:
    job_id = queued(alice)
    links = []
    for step in (lambda: None, lambda: worker.release(job_id)):
        step()
        links.append(get(alice, f"/v1/fine_tuning/jobs/{job_id}").json()["safety"]["report_url"])
    assert links == [None, OWNER.format(job_id)]


def test_the_document_declares_the_report(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    for path in (OWNER, ADMIN):
        template = path.format("{job_id}")
        kinds = [list(document["paths"][template + kind]["get"]["responses"]["200"]["content"]) for kind in KINDS]
        assert kinds == [["application/json"], ["text/html"], ["image/png"]]
    declared = document["components"]["schemas"]["ScoringReport"]["properties"]
    assert {"schema", "checks", "categories", "variants", "sequential", "training"} <= set(declared)


def test_the_api_loads_no_drawing() -> None:
    import subprocess
    import sys

    program = "import sys, api.app; print([m for m in ('matplotlib', 'jinja2', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_who_reads_answers_is_in_the_audit_trail(
    get: Get, alice: openai.OpenAI, admin: openai.OpenAI, scored: str
) -> None:
    def trail() -> list[tuple[str, str]]:
        entries = get(admin, "/v1/admin/audit?limit=50").json()["data"]
        return [(one["action"], one["subject"]) for one in entries]

    before = trail()
    get(alice, OWNER.format(scored))
    get(admin, ADMIN.format(scored) + ".png")
    assert trail() == before
    for path in (ADMIN, ADMIN + ".html", "/v1/fine_tuning/jobs/{}/safety"):
        assert get(admin, path.format(scored)).status_code == 200
    assert trail() == [("safety_report.read", scored)] * 3 + before
    (newest, *_) = get(admin, "/v1/admin/audit?limit=1").json()["data"]
    assert newest["actor"].startswith("key_")
    assert get(admin, "/v1/admin/audit?limit=1").json()["has_more"]


def test_the_audit_trail_is_for_admins(get: Get, alice: openai.OpenAI) -> None:
    assert get(alice, "/v1/admin/audit").status_code == 403
