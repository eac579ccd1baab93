"""The audit trail: append and read, never change."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import ids
from service.db.models import Audit
from service.db.repositories.pages import keyset_page


class AdminAuditRepository:
    """What was done by whom."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(self, actor: str, action: str, subject: str, data: dict[str, Any] | None = None) -> Audit:
        """Record that `actor` (a key id, ``worker`` or ``cli``) did `action` to `subject`."""
        entry = Audit(id=ids.new_id(ids.AUDIT), actor=actor, action=action, subject=subject, data=data)
        self._session.add(entry)
        self._session.flush()
        return entry

    def list(self, after: str | None = None, limit: int = 100) -> Sequence[Audit]:
        """Newest first."""
        return keyset_page(self._session, select(Audit), Audit, after=after, limit=limit)
