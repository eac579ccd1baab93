"""Every failure becomes the same wire object: our errors, the framework's, the database's, and surprises."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import JsonValue
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from api.schemas.errors import ErrorBody, ErrorResponse
from tvaccine_core.errors import InvalidRequest, TVaccineError, Unavailable

# What the router and the body parser answer of themselves. Other statuses keep the parser's words.
FRAMEWORK = {
    404: ("not_found", "There is no route {method} {path}. The routes are listed under /docs."),
    405: ("method_not_allowed", "{path} does not accept {method}; it accepts {allow}."),
}
CODES = {400: "invalid_request", 401: "invalid_api_key", 403: "permission_denied", 413: "payload_too_large"}


def error_response(status: int, body: ErrorBody, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer that carries `body`; 401 and 409 get the headers that clients act on."""
    extra = dict(headers or {})
    if status == 401:
        extra.setdefault("www-authenticate", "Bearer")
    if status == 409:
        # OpenAI's client repeats a 409; ours are final.
        extra.setdefault("x-should-retry", "false")
    if status == 503:
        extra.setdefault("retry-after", "2")
    content = ErrorResponse(error=body).model_dump()
    if body.details is None:
        del content["error"]["details"]
    return JSONResponse(content, status_code=status, headers=extra)


def render(error: TVaccineError) -> JSONResponse:
    """One of our own errors as an answer."""
    return error_response(error.status, ErrorBody.model_validate(error.to_dict()))


def internal_error(request_id: str) -> JSONResponse:
    """The answer to a bug: it names the request, so that the log line can be found, and nothing else."""
    message = f"The server failed to answer. Tell its operator this request id: {request_id}."
    return error_response(500, ErrorBody(message=message, type="server_error", param=None, code="internal_error"))


def install_handlers(app: FastAPI) -> None:
    """Register the handlers; surprises (`Exception`) are caught in `api.middleware`, inside the headers."""
    app.add_exception_handler(TVaccineError, _ours)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(DataError, _unstorable)
    app.add_exception_handler(OperationalError, _database_down)
    app.add_exception_handler(PoolTimeout, _database_down)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TVaccineError)  # noqa: S101 - the registration above says so
    return render(error)


async def _framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - the registration above says so
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    default = (CODES.get(error.status_code, "invalid_request"), str(error.detail))
    code, words = FRAMEWORK.get(error.status_code, default)
    if error.status_code in FRAMEWORK:
        allow = headers.get("allow", "other methods")
        words = words.format(method=request.method, path=request.url.path, allow=allow)
    kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
    return error_response(error.status_code, ErrorBody(message=words, type=kind, param=None, code=code), headers)


async def _validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the registration above says so
    return render(invalid_request(error.errors()))


async def _unstorable(_: Request, __: Exception) -> JSONResponse:
    return render(InvalidRequest("A value holds characters that cannot be stored.", code="invalid_request"))


async def _database_down(_: Request, __: Exception) -> JSONResponse:
    return render(Unavailable("The database does not answer. Try again in a few seconds."))


def invalid_request(faults: Sequence[Any]) -> InvalidRequest:
    """Pydantic's faults as one error: the first names `param`, `details` lists all. Inputs are not echoed."""
    details: list[dict[str, JsonValue]] = [
        {"param": _dotted(fault["loc"]), "code": fault["type"], "message": _words(fault)} for fault in faults
    ]
    first = details[0]
    message = str(first["message"])
    if first["param"]:
        message = f"'{first['param']}': {message}"
    if len(details) > 1:
        message += f" ({len(details) - 1} more in details)"
    return InvalidRequest(message, param=str(first["param"]) or None, code="invalid_request", details=list(details))


def _dotted(location: Sequence[str | int]) -> str:
    # A location starts with where the value came from, and broken JSON has the offset for a field.
    names = [str(part) for part in location[1:]]
    return "" if location[0] == "body" and names[:1] and names[0].isdigit() else ".".join(names)


def _words(fault: dict[str, Any]) -> str:
    if fault["type"] == "json_invalid":
        return f"The body is not valid JSON: {fault.get('ctx', {}).get('error', 'it cannot be read')}."
    if fault["type"] == "missing":
        return "This field is required."
    if fault["type"] == "extra_forbidden":
        return "There is no such field."
    words = str(fault["msg"]).removeprefix("Value error, ")
    return words if words.endswith(".") else f"{words}."
