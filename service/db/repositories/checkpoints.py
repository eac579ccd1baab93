"""Checkpoints that a job's trainer completed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import ids
from service.db.models import Checkpoint
from service.db.repositories.pages import keyset_page


class CheckpointRepository:
    """Checkpoints of any job: callers first fetch the job from the repository of its project."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, job_id: str, step: int, metrics: dict[str, Any]) -> Checkpoint:
        """Record a checkpoint; a step that an earlier attempt recorded keeps its id and gets new metrics."""
        known = self._session.scalars(
            select(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.step == step)
        ).one_or_none()
        if known is not None:
            known.metrics = metrics
            self._session.flush()
            return known
        checkpoint = Checkpoint(id=ids.new_id(ids.CHECKPOINT), job_id=job_id, step=step, metrics=metrics)
        self._session.add(checkpoint)
        self._session.flush()
        return checkpoint

    def list(self, job_id: str, after: str | None = None, limit: int = 10) -> Sequence[Checkpoint]:
        """Newest first."""
        statement = select(Checkpoint).where(Checkpoint.job_id == job_id)
        return keyset_page(self._session, statement, Checkpoint, after=after, limit=limit)
