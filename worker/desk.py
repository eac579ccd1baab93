"""What a stage works with: the job's order, its attempt's directory, and fenced writes to the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from service.artefacts.store import ArtefactStore
from service.db.engine import read_transaction, transaction
from service.db.repositories.events import EventRepository
from service.domain import job_state
from service.domain.job_state import Claim
from service.settings import Settings
from worker.attempt import Attempt
from worker.draining import draining
from worker.interruptions import CancelAsked, LeaseLost, WorkerDrains
from worker.lease import Heartbeat
from worker.order import JobOrder
from worker.runtime import Runtime
from worker.supervisor import Order

EVENTS_LOOKED_AT = 1000


@dataclass(frozen=True)
class Desk:
    """One claimed attempt at a job."""

    runtime: Runtime
    claim: Claim
    order: JobOrder
    attempt: Attempt
    heartbeat: Heartbeat

    @property
    def settings(self) -> Settings:
        """The settings of this process."""
        return self.runtime.settings

    @property
    def store(self) -> ArtefactStore:
        """Where files of record lie."""
        return self.runtime.store

    def wanted(self) -> Order:
        """What the trainer shall do right now."""
        if self.heartbeat.lost:
            return Order.ABANDON
        return Order.STOP if self.heartbeat.cancelled or draining() else Order.GO

    def check(self) -> None:
        """Raise the interruption that is due, if one is. Call it before anything slow or final."""
        if self.heartbeat.lost:
            raise LeaseLost
        if self.heartbeat.cancelled:
            raise CancelAsked
        if draining():
            raise WorkerDrains

    @contextmanager
    def fenced(self) -> Iterator[Session]:
        """One writing transaction in which the claim is known to be good. Raises LeaseLost."""
        with transaction(self.runtime.sessions) as session:
            if not job_state.holds(session, self.claim):
                raise LeaseLost
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One reading transaction."""
        with read_transaction(self.runtime.sessions) as session:
            yield session

    def enter(self, stage: str) -> None:
        """Tell that the job is in `stage` now. Raises the interruption that is due."""
        self.check()
        with transaction(self.runtime.sessions) as session:
            if not job_state.set_stage(session, self.claim, stage):
                raise LeaseLost

    def tell(self, message: str, *, level: str = "info", kind: str = "message", data: dict[str, Any]) -> None:
        """Append an event unless an earlier attempt told the same.

        `data` must hold no text of a user or model.
        """
        with self.fenced() as session:
            self.tell_in(session, message, level=level, kind=kind, data=data)

    def tell_in(
        self,
        session: Session,
        message: str,
        *,
        level: str = "info",
        kind: str = "message",
        data: dict[str, Any],
    ) -> None:
        """`tell` as a part of the transaction of `session`."""
        events = EventRepository(session)
        for event in events.list(self.order.id, limit=EVENTS_LOOKED_AT):
            if event.type == kind and event.message == message and event.data == data:
                return
        events.append(self.order.id, level, message, type=kind, data=data)
