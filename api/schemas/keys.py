"""Projects and API keys on the wire."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.db.models import ApiKey, Project


class ProjectCreate(BaseModel):
    """The body of `POST /v1/admin/projects`."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]


class ProjectObject(BaseModel):
    """A project: files, jobs and models belong to one."""

    id: str
    object: Literal["project"] = "project"
    name: str
    created_at: int

    @classmethod
    def of(cls, project: Project) -> "ProjectObject":
        """The record as the wire shows it."""
        return cls(id=project.id, name=project.name, created_at=int(project.created_at))


class KeyCreate(BaseModel):
    """The body of `POST /v1/admin/keys`."""

    model_config = ConfigDict(extra="forbid")

    project_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    role: Literal["admin", "user"] = "user"


class KeyObject(BaseModel):
    """An API key, without its secret."""

    id: str
    object: Literal["api_key"] = "api_key"
    project_id: str
    role: str
    prefix: str = Field(description="How the secret begins.")
    created_at: int
    revoked_at: int | None

    @classmethod
    def of(cls, key: ApiKey) -> "KeyObject":
        """The record as the wire shows it."""
        return cls(
            id=key.id,
            project_id=key.project_id,
            role=key.role,
            prefix=key.prefix,
            created_at=int(key.created_at),
            revoked_at=None if key.revoked_at is None else int(key.revoked_at),
        )


class NewKey(KeyObject):
    """A key that was just made: the only time its secret is told."""

    secret: str
