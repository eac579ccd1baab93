"""Every unsuccessful answer is the error object, whoever noticed the fault."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.testclient import TestClient

from api.context import Context
from api.errors import render
from tvaccine_core import errors

CLASSES = [
    found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, errors.TVaccineError)
]


def error_of(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    body = answer.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert {"message", "type", "param", "code"} <= set(error) <= {"message", "type", "param", "code", "details"}
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    assert error["message"]
    assert answer.headers["x-request-id"]
    assert int(answer.headers["openai-processing-ms"]) >= 0
    return error


@pytest.fixture
def headers(new_key: Callable[..., str]) -> dict[str, str]:
    return {"authorization": f"Bearer {new_key('alpha')}"}


def test_unknown_paths(http: TestClient) -> None:
    for path in ("/", "/v1", "/v1/nowhere", "/v1/files/", "/v1/fine_tuning/jobs/", "/v1/chat/completions"):
        error = error_of(http.get(path), 404)
        assert error["code"] == "not_found"
        assert path in error["message"]


def test_wrong_methods(http: TestClient) -> None:
    answer = http.put("/v1/files")
    error = error_of(answer, 405)
    assert error["code"] == "method_not_allowed"
    assert "PUT" in error["message"]
    assert answer.headers["allow"]


def test_broken_json(http: TestClient, headers: dict[str, str]) -> None:
    kind = {"content-type": "application/json"}
    for body in (
        b"{broken",
        b"\xff\xfe",
        b"[1]",
        b"",
        b"null",
        b'{"model": "\\ud800", "training_file": "x"}',
    ):
        answer = http.post("/v1/fine_tuning/jobs", content=body, headers={**headers, **kind})
        error = error_of(answer, 400)
        assert error["code"] == "invalid_request", body
    deep = b'{"model": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    error_of(http.post("/v1/fine_tuning/jobs", content=deep, headers={**headers, **kind}), 400)


def test_a_body_that_is_not_json(http: TestClient, headers: dict[str, str]) -> None:
    answer = http.post("/v1/fine_tuning/jobs", data={"model": "m"}, headers=headers)
    error_of(answer, 400)


def test_several_faults_are_all_listed(http: TestClient, headers: dict[str, str]) -> None:
    answer = http.post("/v1/fine_tuning/jobs", json={"seed": "x", "secret": "hunter2"}, headers=headers)
    error = error_of(answer, 400)
    assert {detail["param"] for detail in error["details"]} == {"model", "training_file", "seed", "secret"}
    assert error["param"] in {"model", "training_file", "seed", "secret"}
    assert "hunter2" not in answer.text


def test_a_large_json_body(http: TestClient, headers: dict[str, str]) -> None:
    body = b'{"model": "' + b"m" * 2_000_000 + b'"}'
    kind = {"content-type": "application/json"}
    declared = http.post("/v1/fine_tuning/jobs", content=body, headers={**headers, **kind})

    def in_pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    streamed = http.post("/v1/fine_tuning/jobs", content=in_pieces(), headers={**headers, **kind})
    for answer in (declared, streamed):
        error = error_of(answer, 413)
        assert error["code"] == "payload_too_large"
        assert "1048576" in error["message"]


def test_a_large_upload_without_a_declared_length(http: TestClient, headers: dict[str, str], context: Context) -> None:
    def in_pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(10):
            yield b"y" * context.settings.max_upload_bytes

    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = http.post("/v1/files", content=in_pieces(), headers={**headers, **kind})
    error = error_of(answer, 413)
    assert str(context.settings.max_upload_bytes) in error["message"]


def test_a_bug_is_a_500_that_names_the_request_and_nothing_else(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/bug")
    def bug() -> None:
        raise ZeroDivisionError("a secret of the server")

    with caplog.at_level(logging.ERROR):
        answer = TestClient(app, raise_server_exceptions=False).get("/bug")
    error = error_of(answer, 500)
    assert error["code"] == "internal_error"
    assert answer.headers["x-request-id"] in error["message"]
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (OperationalError("select secret", {}, Exception("down")), 503),
        (PoolTimeout("no connection"), 503),
        (DataError("insert secret", {}, Exception("NUL")), 400),
    ],
)
def test_database_failures(app: FastAPI, failure: Exception, status: int) -> None:
    @app.get("/database")
    def database() -> None:
        raise failure

    answer = TestClient(app, raise_server_exceptions=False).get("/database")
    error_of(answer, status)
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) is (status == 503)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_class_renders_as_the_object(kind: type[errors.TVaccineError], app: FastAPI) -> None:
    raised = kind("What happened.", param="field", details=[{"line": 1, "message": "m"}])

    @app.get("/raise")
    def fail() -> None:
        raise raised

    answer = TestClient(app, raise_server_exceptions=False).get("/raise")
    error = error_of(answer, kind.status)
    assert error == raised.to_dict()
    assert answer.headers.get("x-should-retry") == ("false" if kind.status == 409 else None)
    assert answer.headers.get("www-authenticate") == ("Bearer" if kind.status == 401 else None)


def test_details_are_left_out_when_there_are_none() -> None:
    assert b"details" not in render(errors.NotFound("Gone.")).body
