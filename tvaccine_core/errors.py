"""The one tree of errors that a caller of tvaccine can meet.

Every error knows how it looks on the wire (`status`, `type`, `code`, `param`) and survives pickling, so that
a worker process can hand it to its supervisor unchanged.
"""
# ruff: noqa: N818 - the names say what is wrong; they are read in except clauses and in the documentation.

from __future__ import annotations

from typing import Any

Detail = dict[str, Any]


class TVaccineError(Exception):
    """Base of all errors that tvaccine raises on purpose.

    message: a sentence for a human that ends with what to do about it.
    param: the request field at fault, if one is.
    code: overrides the class's machine-readable code.
    details: one mapping per single fault, for errors that gather several (all faulty rows of a file).
    """

    status: int = 500
    code: str = "internal_error"
    type: str = "server_error"
    param: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        details: list[Detail] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param if param is not None else type(self).param
        self.code = code if code is not None else type(self).code
        self.details: list[Detail] = list(details) if details is not None else []

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.param, self.code, self.details)

    def to_dict(self) -> dict[str, Any]:
        """The error as plain JSON values: message, type, param, code and, if any, details."""
        body: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        if self.details:
            body["details"] = self.details
        return body


def _rebuild(
    cls: type[TVaccineError], message: str, param: str | None, code: str, details: list[Detail]
) -> TVaccineError:
    return cls(message, param=param, code=code, details=details)


class ClientError(TVaccineError):
    """The caller can mend it: every 4xx error."""

    status = 400
    code = "invalid_request_error"
    type = "invalid_request_error"


class InvalidRequest(ClientError):
    """A field of a request or of a configuration has a value that cannot be used."""


class InvalidTrainingFile(ClientError):
    """Rows of an file cannot be trained on; `details` lists every fault {line, path, code, message}."""

    code = "invalid_training_file"


class Unauthenticated(ClientError):
    """The API key is missing or unknown."""

    status = 401
    code = "invalid_api_key"


class PermissionDenied(ClientError):
    """The API key is known but may not do this."""

    status = 403
    code = "permission_denied"


class ModelNotReleased(ClientError):
    """The adapter exists but its score did not pass the gate."""

    status = 403
    code = "model_not_released"


class NotFound(ClientError):
    """No such object in the caller's project."""

    status = 404
    code = "not_found"


class Conflict(ClientError):
    """The object is in a state in which this cannot be done."""

    status = 409
    code = "conflict"


class PayloadTooLarge(ClientError):
    """The request body is larger than the server accepts."""

    status = 413
    code = "payload_too_large"


class UnknownBase(NotFound):
    """No base model of this name can be loaded."""

    code = "model_not_found"
    param = "model"


class UnsupportedArchitecture(ClientError):
    """The base model has no single attention module in each layer."""

    code = "unsupported_architecture"
    param = "model"


class BaseMismatch(ClientError):
    """An adapter was made for other base weights than the ones it is to be used with."""

    code = "base_mismatch"


class DatasetOverlap(ClientError):
    """Two data sets that must be disjoint share rows."""

    code = "dataset_overlap"


class ScoringFailed(TVaccineError):
    """The harmfulness score could not be measured; nothing is released on it."""

    code = "scoring_failed"


class Unavailable(TVaccineError):
    """A part the service needs does not answer; the same request may succeed later."""

    status = 503
    code = "unavailable"
