"""Health on the wire."""

from typing import Literal

from pydantic import BaseModel


class Health(BaseModel):
    """All is well; anything else is an error object."""

    status: Literal["ok"] = "ok"
