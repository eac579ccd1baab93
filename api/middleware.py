"""What wraps every request: an id, a clock, a limit on the body, and a net under surprises."""

import asyncio
import logging
import re
import time
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import error_response, internal_error
from api.schemas.errors import ErrorBody

log = logging.getLogger(__name__)

SAFE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
UPLOAD_PATH = "/v1/files"
MULTIPART_OVERHEAD = 64 * 1024
JSON_LIMIT = 1024 * 1024
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_SECONDS = 10.0
# More digits than any length has; int() itself refuses thousands of them.
MAX_DIGITS = 19


class RequestEnvelope:
    """Adds `x-request-id` and `openai-processing-ms` to every answer, and turns surprises into a 500.

    The id of the caller is kept if it is short and plain. A traceback goes to the log under that id and never
    to the caller.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if SAFE_ID.fullmatch(given) else f"req_{uuid4().hex}"
        begun = time.perf_counter()
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.perf_counter() - begun) * 1000))
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception:
            log.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
            if started:
                # The status line is out: only a broken connection can still tell the caller.
                raise
            await internal_error(request_id)(scope, receive, send_with_headers)


class BodyLimit:
    """Refuses a body over the limit with 413, by its declared length or while it streams in.

    max_upload_bytes: the limit of one uploaded file; all other bodies are JSON and may have 1 MiB.
    """

    def __init__(self, app: ASGIApp, max_upload_bytes: int) -> None:
        self.app = app
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        upload = scope["method"] == "POST" and scope["path"] == UPLOAD_PATH
        limit = self.max_upload_bytes + MULTIPART_OVERHEAD if upload else JSON_LIMIT
        words = too_large(self.max_upload_bytes if upload else limit)
        body = RequestBody(Headers(scope=scope), receive, send, limit, words)
        if body.declared > limit:
            refusal = ErrorBody(message=words, type="invalid_request_error", param=None, code="payload_too_large")
            await error_response(413, refusal)(scope, receive, body.send)
        else:
            await self.app(scope, body.receive, body.send)


class RequestBody:
    """The body of one request: counted as it is read, and drained if it is refused unread."""

    def __init__(self, headers: Headers, receive: Receive, send: Send, limit: int, words: str) -> None:
        self._receive, self._send = receive, send
        self._limit, self._words = limit, words
        length = headers.get("content-length", "")
        self.declared = int(length) if length.isdecimal() and len(length) < MAX_DIGITS else 0
        self._unread = bool(length.strip("0")) or "transfer-encoding" in headers
        # This client sends nothing until it is asked to, and draining would ask.
        self._holds_back = headers.get("expect", "").lower() == "100-continue"
        self._total = 0

    async def receive(self) -> Message:
        """The next piece. Raises HTTPException 413 once there are too many bytes."""
        message = await self._receive()
        self._holds_back = False
        self._unread = bool(message.get("more_body"))
        self._total += len(message.get("body", b""))
        if self._total > self._limit:
            # The body parser lets HTTPException through and would turn others into a 400.
            raise HTTPException(413, self._words)
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer; before an error begins, the rest of the body is dropped."""
        if message["type"] == "http.response.start" and message["status"] >= 400:
            if self._unread and not self._holds_back:
                await drain(self._receive)
            self._unread = False
        await self._send(message)


def too_large(limit: int) -> str:
    """The words of a 413: the limit in bytes, and what to do."""
    return f"The body is larger than this server's limit of {limit} bytes. Send a smaller one, or split it."


async def drain(receive: Receive) -> None:
    """Read what is left of a refused body and drop it, within bounds.

    A client that is still sending when the connection closes sees a broken pipe instead of the answer.
    """
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            read = 0
            while read < DRAIN_BYTES:
                message = await receive()
                read += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return
