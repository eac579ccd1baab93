"""Jobs: those of one project, and the queue that the worker side sees."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.orm import Session

from service.db.clock import unix_now
from service.db.models import FINE_TUNING, QUEUED, RUNNING, WAITING, Job
from service.db.repositories.pages import keyset_page
from service.ids import storable


class JobRepository:
    """The fine-tuning jobs of one project."""

    def __init__(self, session: Session, project_id: str) -> None:
        self._session = session
        self._project_id = project_id

    def add(self, job: Job) -> Job:
        """Insert a job of this project."""
        if job.project_id != self._project_id:
            raise ValueError("the job belongs to another project")
        self._session.add(job)
        self._session.flush()
        return job

    def get(self, job_id: str) -> Job | None:
        """The job as the database has it now."""
        if not storable(job_id):
            return None
        statement = self._own().where(Job.id == job_id).execution_options(populate_existing=True)
        return self._session.scalars(statement).one_or_none()

    def list(
        self,
        after: str | None = None,
        limit: int = 20,
        metadata: Mapping[str, str] | None = None,
        without_metadata: bool = False,
    ) -> Sequence[Job]:
        """Newest first. All pairs of `metadata` must be there; `without_metadata`: only jobs without any."""
        statement = self._own()
        for key, value in (metadata or {}).items():
            if not (storable(key) and storable(value)):
                return []
            statement = statement.where(Job.job_metadata[key].as_string() == value)
        if without_metadata:
            statement = statement.where(Job.job_metadata.is_(None))
        return keyset_page(self._session, statement, Job, after=after, limit=limit)

    def get_by_idempotency_key(self, key: str) -> Job | None:
        """The job an earlier request with this key created."""
        statement = select(Job).where(Job.project_id == self._project_id, Job.idempotency_key == key)
        return self._session.scalars(statement).one_or_none()

    def queue_position(self, job: Job) -> int | None:
        """1 for the next queued job of all projects; None when the job is not queued."""
        if job.state != QUEUED:
            return None
        earlier = or_(Job.created_at < job.created_at, (Job.created_at == job.created_at) & (Job.id < job.id))
        count = select(func.count()).select_from(Job).where(Job.state == QUEUED, earlier)
        return int(self._session.scalars(count).one()) + 1

    def _own(self) -> Select[Job]:
        return select(Job).where(Job.project_id == self._project_id, Job.kind == FINE_TUNING)


class JobQueueRepository:
    """All jobs, for the dispatcher, the reaper and the workers."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, job: Job) -> Job:
        """Insert a job."""
        self._session.add(job)
        self._session.flush()
        return job

    def get(self, job_id: str) -> Job | None:
        """The job as the database has it now."""
        return self._session.get(Job, job_id, populate_existing=True)

    def compare_and_set(self, job_id: str, *, expect: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
        """Write `values` if every column in `expect` has the value it names; False when one has not.

        One UPDATE, so that of several callers with the same expectation exactly one gets True. A value in
        `values` may be an SQL expression, such as ``unix_now() + 30``. Only `service.domain.job_state` may
        call this.
        """
        statement = update(Job).where(Job.id == job_id)
        for name, value in expect.items():
            column = getattr(Job, name)
            statement = statement.where(column.is_(None) if value is None else column == value)
        result = self._session.execute(
            statement.values({getattr(Job, name): value for name, value in values.items()}).returning(Job.id),
            execution_options={"synchronize_session": False},
        )
        return result.first() is not None

    def due(self, now: float, limit: int = 100, dispatch_after: float = 30.0) -> Sequence[str]:
        """Ids of queued jobs, oldest first, that had no wake-up in the last `dispatch_after` seconds."""
        stale = or_(Job.dispatched_at.is_(None), Job.dispatched_at < now - dispatch_after)
        statement = select(Job.id).where(Job.state == QUEUED, stale)
        return self._session.scalars(statement.order_by(Job.created_at, Job.id).limit(limit)).all()

    def mark_dispatched(self, job_ids: Sequence[str]) -> None:
        """Record that wake-ups for these queued jobs are being sent."""
        self._session.execute(
            update(Job).where(Job.id.in_(job_ids), Job.state == QUEUED).values(dispatched_at=unix_now()),
            execution_options={"synchronize_session": False},
        )

    def expired(self, now: float, limit: int = 100) -> Sequence[Job]:
        """Running jobs whose lease ended before `now`."""
        statement = select(Job).where(Job.state == RUNNING, Job.lease_until < now)
        fresh = statement.order_by(Job.lease_until).limit(limit).execution_options(populate_existing=True)
        return self._session.scalars(fresh).all()

    def owned_by(self, owner: str) -> Sequence[Job]:
        """Running jobs that the worker `owner` claimed, in this or an earlier life of it."""
        statement = select(Job).where(Job.state == RUNNING, Job.lease_owner == owner)
        return self._session.scalars(statement.execution_options(populate_existing=True)).all()

    def waiting(self, vaccine_id: str | None = None) -> Sequence[Job]:
        """Jobs parked until a vaccine is made; those of one vaccine if it is named."""
        statement = select(Job).where(Job.state == WAITING).order_by(Job.created_at)
        if vaccine_id is not None:
            statement = statement.where(Job.vaccine_id == vaccine_id)
        return self._session.scalars(statement.execution_options(populate_existing=True)).all()

    def counts(self) -> dict[str, int]:
        """Number of jobs by state, for health reports."""
        rows = self._session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
        return {row[0]: row[1] for row in rows}

    def list_vaccinations(self, after: str | None = None, limit: int = 20) -> Sequence[Job]:
        """Vaccination jobs, newest first."""
        statement = select(Job).where(Job.kind != FINE_TUNING)
        return keyset_page(self._session, statement, Job, after=after, limit=limit)
