"""The same routes on PostgreSQL, where text, transactions and locks behave differently from SQLite."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import openai
import psycopg
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.db.migrate import upgrade
from tests.service_servers import postgresql_server

pytestmark = pytest.mark.server
BASE = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture
def database_url(server: str) -> str:
    """A new, migrated database on the server."""
    name = f"api_{uuid4().hex}"
    plain = server.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(plain.format(database="postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = server.format(database=name)
    upgrade(url)
    return url


def test_a_job_goes_all_the_way(
    alice: openai.OpenAI,
    bob: openai.OpenAI,
    http: TestClient,
    upload: Callable[[openai.OpenAI], str],
    worker: Any,
) -> None:
    assert http.get("/readyz").status_code == 200
    pairs = {"team": "a b", "x] --": "y"}
    job = alice.fine_tuning.jobs.create(model=BASE, training_file=upload(alice), metadata=pairs)
    bare = alice.fine_tuning.jobs.create(model=BASE, training_file=job.training_file)
    assert [found.id for found in alice.fine_tuning.jobs.list(metadata=pairs)] == [job.id]
    assert [found.id for found in alice.fine_tuning.jobs.list(extra_query={"metadata": "null"})] == [bare.id]
    assert [found.id for found in alice.fine_tuning.jobs.list(limit=1)] == [bare.id, job.id]
    assert alice.fine_tuning.jobs.retrieve(bare.id).model_extra["queue_position"] == 2  # type: ignore[index]
    name = worker.release(job.id)
    assert [event.message for event in alice.fine_tuning.jobs.list_events(job.id, limit=2)][-1] == (
        "Created fine-tuning job"
    )
    assert alice.get(f"/fine_tuning/jobs/{job.id}/safety", cast_to=object)["verdict"] == "pass"  # type: ignore[index]
    with pytest.raises(openai.NotFoundError):
        bob.models.retrieve(name)
    assert alice.models.delete(name).deleted
    assert alice.fine_tuning.jobs.cancel(bare.id).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        alice.fine_tuning.jobs.cancel(bare.id)
    assert alice.files.delete(job.training_file).deleted


def test_a_vaccination_is_queued_and_shown(admin: openai.OpenAI) -> None:
    made = admin.post("/admin/vaccinations", body={"config": {"seed": 4}}, cast_to=object)
    assert isinstance(made, dict)
    assert admin.get(f"/admin/vaccinations/{made['id']}", cast_to=object) == made


def test_text_that_cannot_be_stored_is_no_server_error(
    http: TestClient, new_key: Callable[..., str], client_of: Callable[[str], openai.OpenAI]
) -> None:
    key = new_key("alpha", "admin")
    headers = {"authorization": f"Bearer {key}"}
    paths = [
        "/v1/files/a%00b",
        "/v1/files/a%00b/content",
        "/v1/files?after=a%00b",
        "/v1/files?purpose=a%00b",
        "/v1/models/a%00b",
        "/v1/fine_tuning/jobs/a%00b",
        "/v1/fine_tuning/jobs/a%00b/safety",
        "/v1/fine_tuning/jobs/a%00b/adapter",
        "/v1/fine_tuning/jobs?metadata[a%00]=b",
        "/v1/fine_tuning/jobs?metadata[a]=%00",
        "/v1/admin/vaccinations/a%00b",
        "/v1/admin/vaccinations?base=a%00b",
        "/v1/admin/keys?project_id=a%00b",
    ]
    for path in paths:
        assert http.get(path, headers=headers).status_code in {200, 400, 404}, path
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/admin/projects", {"name": "a\x00b"}),
        ("/v1/admin/keys", {"project_id": "a\x00b"}),
        ("/v1/admin/vaccinations", {"base": "a\x00b"}),
        ("/v1/admin/vaccinations", {"alignment_file": "a\x00b"}),
        ("/v1/fine_tuning/jobs", {"model": "a\x00b", "training_file": "f"}),
        ("/v1/fine_tuning/jobs", {"model": BASE, "training_file": "a\x00b"}),
        ("/v1/fine_tuning/jobs", {"model": BASE, "training_file": "f", "metadata": {"k": "\x00"}}),
    ]
    for path, body in bodies:
        assert http.post(path, json=body, headers=headers).status_code in {400, 404}, (path, body)
    assert http.delete("/v1/admin/keys/a%00b", headers=headers).status_code == 404
    assert client_of(key).files.list().data == []


def test_a_crowd_with_one_idempotency_key_gets_one_job(
    app: FastAPI,
    new_key: Callable[..., str],
    client_of: Callable[[str], openai.OpenAI],
    upload: Callable[[openai.OpenAI], str],
) -> None:
    key = new_key("alpha")
    file = upload(client_of(key))
    headers = {"authorization": f"Bearer {key}", "idempotency-key": "once"}
    with TestClient(app, raise_server_exceptions=False) as client:

        def create(_: int) -> str:
            body = {"model": BASE, "training_file": file}
            answer = client.post("/v1/fine_tuning/jobs", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            made: str = answer.json()["id"]
            return made

        with ThreadPoolExecutor(10) as crowd:
            assert len(set(crowd.map(create, range(10)))) == 1
