"""Adapters of jobs: what a project can see, and what the worker writes."""

from collections.abc import Sequence

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from service import ids
from service.db.clock import unix_now
from service.db.models import QUARANTINE, RELEASED, Adapter, Job
from service.db.repositories.pages import keyset_page


class AdapterRepository:
    """The adapters of one project."""

    def __init__(self, session: Session, project_id: str) -> None:
        self._session = session
        self._project_id = project_id

    def get_by_job(self, job_id: str) -> Adapter | None:
        """The adapter of a job, wherever it lies."""
        return self._one(self._own().where(Adapter.job_id == job_id))

    def get_by_model(self, model_name: str) -> Adapter | None:
        """The released adapter with this model name."""
        if not ids.storable(model_name):
            return None
        return self._one(self._own().where(Adapter.model_name == model_name))

    def list_released(self, after: str | None = None, limit: int = 10_000) -> Sequence[Adapter]:
        """Released adapters, newest first."""
        statement = self._own().where(Adapter.place == RELEASED)
        return keyset_page(self._session, statement, Adapter, after=after, limit=limit)

    def remove_released(self, model_name: str) -> Adapter | None:
        """Forget the released adapter with this model name; the row as it was, None if there is none."""
        adapter = self.get_by_model(model_name)
        if adapter is not None:
            self._session.delete(adapter)
            self._session.flush()
        return adapter

    def _own(self) -> Select[Adapter]:
        return select(Adapter).where(Adapter.project_id == self._project_id)

    def _one(self, statement: Select[Adapter]) -> Adapter | None:
        fresh = statement.execution_options(populate_existing=True)
        return self._session.scalars(fresh).one_or_none()


class AdminAdapterRepository:
    """Adapters of all projects."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_by_job(self, job_id: str) -> Adapter | None:
        """The adapter of a job."""
        statement = select(Adapter).where(Adapter.job_id == job_id)
        return self._session.scalars(statement.execution_options(populate_existing=True)).one_or_none()

    def put_in_quarantine(self, job: Job, *, storage_key: str, sha256: str, size: int) -> Adapter:
        """Record the adapter that is to be scored; a later attempt replaces what an earlier one left."""
        adapter = self.get_by_job(job.id)
        if adapter is None:
            adapter = Adapter(id=ids.new_id(ids.ADAPTER), job_id=job.id, project_id=job.project_id)
            self._session.add(adapter)
        elif adapter.place == RELEASED:
            raise ValueError(f"the adapter of {job.id} is released and cannot be replaced")
        adapter.place, adapter.storage_key = QUARANTINE, storage_key
        adapter.sha256, adapter.bytes = sha256, size
        self._session.flush()
        return adapter

    def mark_released(self, job_id: str, *, storage_key: str, sha256: str, model_name: str) -> bool:
        """Record the release; False unless an adapter with exactly this SHA-256 lies in quarantine."""
        result = self._session.execute(
            update(Adapter)
            .where(Adapter.job_id == job_id, Adapter.place == QUARANTINE, Adapter.sha256 == sha256)
            .values(place=RELEASED, storage_key=storage_key, model_name=model_name, released_at=unix_now())
            .returning(Adapter.id),
            execution_options={"synchronize_session": False},
        )
        return result.first() is not None
