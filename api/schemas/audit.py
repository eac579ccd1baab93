"""The audit trail on the wire."""

from typing import Any, Literal

from pydantic import BaseModel

from service.db.models import Audit


class AuditEntry(BaseModel):
    """Who did what to what. actor: a key's id, or `service` or `cli`; subject: an id."""

    id: str
    object: Literal["audit.entry"] = "audit.entry"
    created_at: int
    actor: str
    action: str
    subject: str
    data: dict[str, Any] | None = None

    @classmethod
    def of(cls, entry: Audit) -> "AuditEntry":
        """The record as the wire shows it."""
        return cls(
            id=entry.id,
            created_at=int(entry.created_at),
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            data=entry.data,
        )
