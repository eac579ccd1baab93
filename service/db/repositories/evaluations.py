"""Scorings of jobs."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import ids
from service.db.models import Evaluation


class EvaluationRepository:
    """Evaluations of any job: callers first fetch the job from the repository of its project."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self, job_id: str, *, attempt: int, verdict: str | None, report_key: str, summary: dict[str, Any]
    ) -> Evaluation:
        """Record a scoring; `summary` must hold no text that a model wrote."""
        evaluation = Evaluation(
            id=ids.new_id(ids.EVALUATION),
            job_id=job_id,
            attempt=attempt,
            verdict=verdict,
            report_key=report_key,
            summary=summary,
        )
        self._session.add(evaluation)
        self._session.flush()
        return evaluation

    def list(self, job_id: str) -> Sequence[Evaluation]:
        """Newest first."""
        statement = select(Evaluation).where(Evaluation.job_id == job_id)
        return self._session.scalars(statement.order_by(Evaluation.created_at.desc(), Evaluation.id.desc())).all()

    def latest(self, job_id: str) -> Evaluation | None:
        """The last scoring of a job."""
        return next(iter(self.list(job_id)), None)
