"""Uploaded files of one project, and the purge that looks at all projects."""

from collections.abc import Sequence

from sqlalchemy import Select, or_, select, update
from sqlalchemy.orm import Session

from service import ids
from service.db.clock import unix_now
from service.db.models import OPEN_STATES, File, Job
from service.db.repositories.pages import keyset_page


class FileRepository:
    """The files that a project can see: neither deleted nor expired."""

    def __init__(self, session: Session, project_id: str) -> None:
        self._session = session
        self._project_id = project_id

    def add(
        self,
        *,
        filename: str,
        purpose: str,
        size: int,
        sha256: str,
        storage_key: str,
        rows: int | None = None,
        expires_after: float | None = None,
        status: str = "processed",
    ) -> File:
        """Insert a file of `size` bytes that expires `expires_after` seconds from now."""
        file = File(
            id=ids.new_id(ids.FILE),
            project_id=self._project_id,
            filename=filename,
            purpose=purpose,
            bytes=size,
            sha256=sha256,
            storage_key=storage_key,
            rows=rows,
            status=status,
        )
        if expires_after is not None:
            file.expires_at = unix_now() + expires_after
        self._session.add(file)
        self._session.flush()
        if expires_after is not None:
            self._session.refresh(file)
        return file

    def get(self, file_id: str, *, lock: bool = False) -> File | None:
        """The file; with `lock`, no other transaction deletes it or starts a job with it meanwhile."""
        if not ids.storable(file_id):
            return None
        statement = self._visible().where(File.id == file_id)
        if lock:  # SQLite ignores it: there BEGIN IMMEDIATE holds the whole database
            statement = statement.with_for_update()
        return self._session.scalars(statement.execution_options(populate_existing=True)).one_or_none()

    def list(
        self, purpose: str | None = None, after: str | None = None, order: str = "desc", limit: int = 10_000
    ) -> Sequence[File]:
        """Files by age; `order` is ``asc`` or ``desc``."""
        statement = self._visible()
        if purpose is not None and not ids.storable(purpose):
            return []
        if purpose is not None:
            statement = statement.where(File.purpose == purpose)
        return keyset_page(self._session, statement, File, after=after, limit=limit, descending=order != "asc")

    def used_by(self, file_id: str) -> Sequence[str]:
        """Ids of this project's unfinished jobs that need the file."""
        statement = select(Job.id).where(
            Job.project_id == self._project_id,
            Job.state.in_(OPEN_STATES),
            or_(Job.training_file == file_id, Job.validation_file == file_id),
        )
        return self._session.scalars(statement.order_by(Job.created_at)).all()

    def mark_deleted(self, file_id: str) -> bool:
        """Hide the file; False when there was none to hide."""
        changed = self._session.execute(
            update(File)
            .where(File.id == file_id, File.project_id == self._project_id, File.deleted_at.is_(None))
            .values(deleted_at=unix_now())
            .returning(File.id),
            execution_options={"synchronize_session": False},
        )
        return changed.first() is not None

    def _visible(self) -> Select[File]:
        return select(File).where(
            File.project_id == self._project_id,
            File.deleted_at.is_(None),
            or_(File.expires_at.is_(None), File.expires_at > unix_now()),
        )


class AdminFileRepository:
    """Files of all projects, for workers and for the purge of bytes nobody can reach any more."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, file_id: str) -> File | None:
        """The record, deleted or not."""
        return self._session.get(File, file_id, populate_existing=True)

    def purgeable(self, limit: int = 100) -> Sequence[File]:
        """Deleted or expired files whose bytes are still stored and that no unfinished job needs."""
        in_use = select(Job.id).where(
            Job.state.in_(OPEN_STATES), or_(Job.training_file == File.id, Job.validation_file == File.id)
        )
        gone = or_(File.deleted_at.is_not(None), File.expires_at <= unix_now())
        statement = select(File).where(File.purged_at.is_(None), gone, ~in_use.exists())
        return self._session.scalars(statement.order_by(File.created_at).limit(limit)).all()

    def mark_purged(self, file_id: str) -> None:
        """Record that the bytes are removed."""
        self._session.execute(
            update(File).where(File.id == file_id).values(purged_at=unix_now()),
            execution_options={"synchronize_session": False},
        )
