"""The error object that every unsuccessful answer carries, on every path."""

from pydantic import BaseModel, Field, JsonValue


class ErrorBody(BaseModel):
    """What went wrong, and with which field."""

    message: str = Field(description="A sentence for a person; it names the remedy where there is one.")
    type: str = Field(description="`invalid_request_error` for 4xx, `server_error` for 5xx.")
    param: str | None = Field(description="The field at fault, dotted, or null.")
    code: str | None = Field(description="A stable word for programs.")
    details: list[dict[str, JsonValue]] | None = Field(
        default=None,
        description="All faults, one by one. For a training file: `line`, `path`, `code`, `message`.",
    )


class ErrorResponse(BaseModel):
    """`{"error": {...}}`."""

    error: ErrorBody
