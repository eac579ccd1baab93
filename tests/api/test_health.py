"""Health needs no key; readiness says what is missing."""

import shutil
from pathlib import Path

from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.context import Context
from service.settings import Settings, load_settings


def checks(answer: object) -> list[str]:
    details = answer.json()["error"]["details"]  # type: ignore[attr-defined]
    return [detail["check"] for detail in details]


def test_a_whole_server_is_alive_and_ready(http: TestClient) -> None:
    for path in ("/healthz", "/readyz"):
        answer = http.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_database_without_migrations_is_not_ready(tmp_path: Path) -> None:
    app = create_app(load_settings(data_dir=tmp_path / "new"))
    client = TestClient(app)
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert checks(answer) == ["database"]
    assert "migrations" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"]


def test_an_unreachable_database_is_not_ready(tmp_path: Path) -> None:
    url = "postgresql://nobody:secret@127.0.0.1:1/none"
    client = TestClient(create_app(load_settings(data_dir=tmp_path, database_url=url)))
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert checks(answer) == ["database"]
    assert "secret" not in answer.text
    refused = client.get("/v1/models", headers={"authorization": "Bearer tv-x"})
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "unavailable"


def test_artefacts_that_cannot_be_written_are_not_ready(app: FastAPI, context: Context, settings: Settings) -> None:
    shutil.rmtree(settings.artefacts_dir)
    answer = TestClient(app).get("/readyz")
    assert answer.status_code == 503
    assert checks(answer) == ["artefacts"]
