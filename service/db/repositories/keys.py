"""Projects and their API keys."""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.db.clock import unix_now
from service.db.models import ApiKey, Project
from service.ids import storable


class AdminKeyRepository:
    """Keys and projects of the whole service."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, key: ApiKey) -> ApiKey:
        """Insert a key."""
        self._session.add(key)
        self._session.flush()
        return key

    def by_prefix(self, prefix: str) -> Sequence[ApiKey]:
        """Keys that are not revoked and whose secret starts with `prefix`."""
        statement = select(ApiKey).where(ApiKey.prefix == prefix, ApiKey.revoked_at.is_(None))
        return self._session.scalars(statement.execution_options(populate_existing=True)).all()

    def list(self, project_id: str | None = None) -> Sequence[ApiKey]:
        """Keys by age, revoked ones too."""
        statement = select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)
        if project_id is not None and not storable(project_id):
            return []
        if project_id is not None:
            statement = statement.where(ApiKey.project_id == project_id)
        return self._session.scalars(statement.execution_options(populate_existing=True)).all()

    def revoke(self, key_id: str) -> bool:
        """False when there is no such key or it was revoked before."""
        if not storable(key_id):
            return False
        result = self._session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=unix_now())
            .returning(ApiKey.id),
            execution_options={"synchronize_session": False},
        )
        return result.first() is not None

    def add_project(self, project: Project) -> Project:
        """Insert a project."""
        self._session.add(project)
        self._session.flush()
        return project

    def project_named(self, name: str) -> Project | None:
        """The project with this name."""
        if not storable(name):
            return None
        return self._session.scalars(select(Project).where(Project.name == name)).one_or_none()

    def project(self, project_id: str) -> Project | None:
        """The project with this id."""
        return self._session.get(Project, project_id) if storable(project_id) else None
