"""Vaccines: versioned alignment adapters, shared by all projects."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from service.db.clock import unix_now
from service.db.models import FAILED, MAKING, READY, Vaccine
from service.db.repositories.pages import keyset_page
from service.ids import storable


class AdminVaccineRepository:
    """All vaccines. Only one of a base is active; the database enforces it by a partial unique index."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def active(self, base: str) -> Vaccine | None:
        """The vaccine that new jobs of `base` get."""
        statement = select(Vaccine).where(Vaccine.base == base, Vaccine.active)
        return self._session.scalars(statement.execution_options(populate_existing=True)).one_or_none()

    def next_version(self, base: str) -> int:
        """1 for the first vaccine of a base. Two transactions may learn the same number: a unique constraint
        lets one of them keep it."""
        highest = self._session.scalars(select(func.max(Vaccine.version)).where(Vaccine.base == base)).one()
        return (highest or 0) + 1

    def add(self, vaccine: Vaccine) -> Vaccine:
        """Insert a vaccine."""
        self._session.add(vaccine)
        self._session.flush()
        return vaccine

    def get(self, vaccine_id: str) -> Vaccine | None:
        """The vaccine as the database has it now."""
        if not storable(vaccine_id):
            return None
        return self._session.get(Vaccine, vaccine_id, populate_existing=True)

    def get_by_job(self, job_id: str) -> Vaccine | None:
        """The vaccine that a vaccination job makes."""
        statement = select(Vaccine).where(Vaccine.job_id == job_id)
        return self._session.scalars(statement.execution_options(populate_existing=True)).one_or_none()

    def open_by_key(self, open_key: str, *, lock: bool = False) -> Vaccine | None:
        """The vaccine being made from exactly this base, configuration and data; locked, if asked for."""
        return self._first(select(Vaccine).where(Vaccine.open_key == open_key), lock)

    def open_for(self, base: str, *, lock: bool = False) -> Vaccine | None:
        """The oldest vaccine of `base` that is being made and will be activated; locked, if asked for."""
        statement = select(Vaccine).where(Vaccine.base == base, Vaccine.state == MAKING, Vaccine.activate_when_ready)
        return self._first(statement.order_by(Vaccine.version).limit(1), lock)

    def list(self, base: str | None = None, after: str | None = None, limit: int = 20) -> Sequence[Vaccine]:
        """Newest first."""
        statement = select(Vaccine)
        if base is not None:
            statement = statement.where(Vaccine.base == base)
        return keyset_page(self._session, statement, Vaccine, after=after, limit=limit)

    def activate(self, vaccine_id: str) -> bool:
        """Make this ready vaccine the active one of its base; False when it is not ready."""
        wanted = self.get(vaccine_id)
        if wanted is None or wanted.state != READY:
            return False
        # The lock orders two activations for one base; without it the second would break the unique index.
        siblings = select(Vaccine.id).where(Vaccine.base == wanted.base).order_by(Vaccine.id)
        self._session.execute(siblings.with_for_update()).all()
        others = update(Vaccine).where(Vaccine.base == wanted.base, Vaccine.active, Vaccine.id != vaccine_id)
        self._write(others.values(active=False))
        return self._write(update(Vaccine).where(Vaccine.id == vaccine_id).values(active=True))

    def deactivate(self, vaccine_id: str) -> bool:
        """False when it was not active."""
        statement = update(Vaccine).where(Vaccine.id == vaccine_id, Vaccine.active)
        return self._write(statement.values(active=False))

    def request_activation(self, vaccine_id: str) -> None:
        """Have a vaccine that is being made activated once it is ready."""
        self._write(update(Vaccine).where(Vaccine.id == vaccine_id).values(activate_when_ready=True))

    def mark_ready(self, vaccine_id: str, **values: Any) -> bool:
        """Close a vaccine that is being made, with its adapter; False when it is not being made."""
        statement = update(Vaccine).where(Vaccine.id == vaccine_id, Vaccine.state == MAKING)
        return self._write(statement.values(state=READY, ready_at=unix_now(), open_key=None, **values))

    def mark_failed(self, vaccine_id: str) -> bool:
        """Close a vaccine that is being made, without an adapter; False when it is not being made."""
        statement = update(Vaccine).where(Vaccine.id == vaccine_id, Vaccine.state == MAKING)
        return self._write(statement.values(state=FAILED, open_key=None))

    def _first(self, statement: Select[Vaccine], lock: bool) -> Vaccine | None:
        if lock:  # SQLite ignores it: there BEGIN IMMEDIATE holds the whole database
            statement = statement.with_for_update()
        return self._session.scalars(statement.execution_options(populate_existing=True)).one_or_none()

    def _write(self, statement: Any) -> bool:
        result = self._session.execute(
            statement.returning(Vaccine.id), execution_options={"synchronize_session": False}
        )
        return len(result.all()) > 0
