"""The multipart form of an upload, read after the key is checked: a stranger's bytes never reach the disk."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile

from api.auth import CallerDep
from tvaccine_core.errors import InvalidRequest

EXPIRY_SECONDS = range(3600, 2592000 + 1)
MAX_FIELDS = 8
PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")

# FastAPI would read the form before the key is checked, so the form is described here by hand.
FORM_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["purpose", "file"],
                    "properties": {
                        "purpose": {"type": "string", "enum": list(PURPOSES)},
                        "file": {"type": "string", "format": "binary"},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": EXPIRY_SECONDS[0],
                            "maximum": EXPIRY_SECONDS[-1],
                        },
                    },
                }
            }
        },
    }
}


@dataclass(frozen=True)
class UploadForm:
    """A received upload: its bytes lie in a spooled file that is closed with the request."""

    purpose: str
    filename: str
    content: BinaryIO
    expires_after: int | None


async def upload_form(request: Request, _caller: CallerDep) -> AsyncIterator[UploadForm]:
    """The form of the request, for a caller with a valid key. Raises InvalidRequest that names the field."""
    async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
        yield read_form(form)


def read_form(form: FormData) -> UploadForm:
    """Check the fields one by one. Raises InvalidRequest."""
    purpose = form.get("purpose")
    if not isinstance(purpose, str) or purpose not in PURPOSES:
        raise _wrong("purpose", f"Send one of: {', '.join(PURPOSES)}.")
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise _wrong("file", "Send the file as the multipart part 'file', with a file name.")
    if not upload.filename:
        raise _wrong("file", "The part 'file' needs a file name.")
    return UploadForm(purpose, upload.filename, upload.file, _expiry(form))


def _expiry(form: FormData) -> int | None:
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise _wrong("expires_after[anchor]", "The only anchor is 'created_at'.")
    # Digits are counted first: int() refuses very long strings with an error of its own.
    plain = isinstance(seconds, str) and seconds.isdecimal() and len(seconds) <= len(str(EXPIRY_SECONDS[-1]))
    if not plain or int(str(seconds)) not in EXPIRY_SECONDS:
        bounds = f"{EXPIRY_SECONDS[0]} to {EXPIRY_SECONDS[-1]}"
        raise _wrong("expires_after[seconds]", f"Send a whole number of seconds from {bounds}.")
    return int(str(seconds))


def _wrong(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"'{param}': {message}", param=param, code="invalid_request")


UploadDep = Annotated[UploadForm, Depends(upload_form)]
