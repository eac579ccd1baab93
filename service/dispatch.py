"""Waking workers up. The queued row is the truth: a wake-up that is lost is sent again."""

from typing import Protocol

from sqlalchemy.orm import Session

from service.db.clock import db_now
from service.db.repositories.jobs import JobQueueRepository


class Publisher(Protocol):
    """Sends the wake-up of one job to whatever runs workers."""

    def publish(self, job_id: str) -> None:
        """Send it. May raise; the job is then published again later."""


def take_due(session: Session, limit: int = 100, dispatch_after: float = 30.0) -> list[str]:
    """Ids of the queued jobs to publish now, oldest first, marked as dispatched in this transaction."""
    jobs = JobQueueRepository(session)
    due = list(jobs.due(db_now(session), limit, dispatch_after))
    if due:
        jobs.mark_dispatched(due)
    return due
