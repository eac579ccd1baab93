"""The envelope of every request, and the limit on bodies, below HTTP."""

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.middleware import DRAIN_BYTES, MULTIPART_OVERHEAD, BodyLimit


def test_a_callers_plain_request_id_is_kept(http: TestClient) -> None:
    answer = http.get("/healthz", headers={"x-request-id": "trace-1:a.b_c"})
    assert answer.headers["x-request-id"] == "trace-1:a.b_c"
    for strange in ("", "a b", "x" * 129, "<script>"):
        found = http.get("/healthz", headers={"x-request-id": strange}).headers["x-request-id"]
        assert found.startswith("req_")


def test_request_ids_differ_and_reach_the_clients_errors(alice: openai.OpenAI) -> None:
    found = set()
    for _ in range(2):
        with pytest.raises(openai.NotFoundError) as error:
            alice.files.retrieve("file-unknown")
        found.add(error.value.request_id)
    assert len(found) == 2
    assert None not in found


class Body:
    """A client that sends so many pieces of so many bytes, and counts those that were taken."""

    def __init__(self, pieces: int, size: int) -> None:
        self.left, self.size, self.taken = pieces, size, 0

    async def receive(self) -> Message:
        self.left -= 1
        self.taken += 1
        return {"type": "http.request", "body": b"x" * self.size, "more_body": self.left > 0}


async def read_all(_: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})


def call(body: Body, headers: list[tuple[bytes, bytes]], app: ASGIApp = read_all) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/files", "headers": headers}
    asyncio.run(BodyLimit(app, max_upload_bytes=1000)(scope, body.receive, send))
    return sent


def test_a_body_within_the_limit_passes() -> None:
    assert call(Body(10, 100), [(b"content-length", b"1000")])[0]["status"] == 200


def test_a_declared_length_over_the_limit_is_refused_and_drained() -> None:
    body = Body(20, 10_000)
    sent = call(body, [(b"content-length", b"200000")])
    assert sent[0]["status"] == 413
    assert body.taken == 20


def test_a_stream_over_the_limit_stops_the_reader() -> None:
    body = Body(20, MULTIPART_OVERHEAD)
    with pytest.raises(HTTPException) as refused:
        call(body, [(b"transfer-encoding", b"chunked")])
    assert refused.value.status_code == 413
    assert body.taken == 2


async def refuse(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 401, "headers": []})


def test_a_body_that_is_refused_unread_is_drained_before_the_answer() -> None:
    body = Body(20, 10)
    assert call(body, [(b"content-length", b"200")], app=refuse)[0]["status"] == 401
    assert body.taken == 20


def test_an_endless_body_is_not_drained_for_ever() -> None:
    body = Body(10**9, 8 * 1024 * 1024)
    call(body, [(b"transfer-encoding", b"chunked")], app=refuse)
    assert body.taken * body.size <= 2 * DRAIN_BYTES


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"0")]])
def test_nothing_is_awaited_where_there_is_no_body(headers: list[tuple[bytes, bytes]]) -> None:
    body = Body(20, 10)
    call(body, headers, app=refuse)
    assert body.taken == 0


def test_a_client_that_waits_to_be_asked_is_not_asked_for_a_refused_body() -> None:
    body = Body(20, 10)
    call(body, [(b"content-length", b"200"), (b"expect", b"100-continue")], app=refuse)
    assert body.taken == 0


def test_a_length_that_is_no_number_is_not_trusted() -> None:
    for length in (b"9" * 5000, b"-5", b"many"):
        assert call(Body(2, 10), [(b"content-length", length)])[0]["status"] == 200


def test_other_paths_have_the_smaller_limit(http: TestClient, new_key: Callable[..., str]) -> None:
    headers = {"authorization": f"Bearer {new_key('alpha')}"}
    answer = http.post("/v1/files/file-x/content", content=b"x" * 1_048_577, headers=headers)
    assert answer.status_code == 413
