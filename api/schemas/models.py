"""Models on the wire."""

from typing import Literal

from pydantic import BaseModel

from service.db.models import Adapter

# Bases are not made by this server; a client only needs the field to be there.
NO_DATE = 0


class Model(BaseModel):
    """A base model, or a released fine-tuned one."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    shutdown_date: str | None = None

    @classmethod
    def base(cls, name: str) -> "Model":
        """A base model that jobs may start from."""
        return cls(id=name, created=NO_DATE, owned_by="system")

    @classmethod
    def of(cls, adapter: Adapter) -> "Model":
        """A released adapter."""
        released = adapter.created_at if adapter.released_at is None else adapter.released_at
        return cls(id=adapter.model_name or adapter.id, created=int(released), owned_by=adapter.project_id or "")


class ModelDeleted(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True
