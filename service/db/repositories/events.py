"""Events of jobs, numbered from 1 within each job."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service import ids
from service.db.models import Event, Job
from tvaccine_core.errors import InvalidRequest, NotFound


class EventRepository:
    """Events of any job: callers first fetch the job from the repository of its project."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(
        self,
        job_id: str,
        level: str,
        message: str,
        type: str = "message",  # noqa: A002 - the name on the wire
        data: dict[str, Any] | None = None,
    ) -> Event:
        """Append an event; `level` is info, warn or error, `type` message or metrics.

        The number comes from a counter in the job's row, whose lock orders concurrent writers.
        Raises NotFound for an unknown job.
        """
        seq = self._session.execute(
            update(Job).where(Job.id == job_id).values(event_seq=Job.event_seq + 1).returning(Job.event_seq),
            execution_options={"synchronize_session": False},
        ).scalar_one_or_none()
        if seq is None:
            raise NotFound(f"No job {job_id!r}.")
        event = Event(
            id=ids.new_id(ids.EVENT),
            job_id=job_id,
            seq=seq,
            level=level,
            type=type,
            message=message,
            data=data,
        )
        self._session.add(event)
        self._session.flush()
        return event

    def list(self, job_id: str, after: str | None = None, limit: int = 20) -> Sequence[Event]:
        """Newest first. Raises InvalidRequest when `after` is no event of the job."""
        statement = select(Event).where(Event.job_id == job_id)
        if after is not None:
            known = self._session.scalars(statement.where(Event.id == after)) if ids.storable(after) else None
            last = None if known is None else known.one_or_none()
            if last is None:
                raise InvalidRequest(f"No event {after!r} to continue after.", param="after")
            statement = statement.where(Event.seq < last.seq)
        return self._session.scalars(statement.order_by(Event.seq.desc()).limit(limit)).all()

    def list_after(self, job_id: str, seq: int, limit: int = 100) -> Sequence[Event]:
        """Oldest first, those with a number greater than `seq`: to follow a running job."""
        statement = select(Event).where(Event.job_id == job_id, Event.seq > seq)
        return self._session.scalars(statement.order_by(Event.seq).limit(limit)).all()
