"""Projects and API keys, for admins."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from api.auth import AdminDep, administrator
from api.context import ContextDep
from api.openapi import errors
from api.schemas.keys import KeyCreate, KeyObject, NewKey, ProjectCreate, ProjectObject
from api.schemas.lists import Page
from service.db.repositories.audit import AdminAuditRepository
from service.db.repositories.keys import AdminKeyRepository
from service.keys import create_key, ensure_project, list_keys, revoke_key
from tvaccine_core.errors import Conflict

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(administrator)])


@router.post("/projects", summary="Create a project", responses=errors(400, 401, 403, 409, 413, 503))
def create_project(context: ContextDep, admin: AdminDep, body: ProjectCreate) -> ProjectObject:
    """Make a project. Its name must be free."""
    with context.write() as session:
        if AdminKeyRepository(session).project_named(body.name) is not None:
            raise Conflict(f"There is a project named {body.name!r} already.", param="name")
        project = ensure_project(session, body.name)
        AdminAuditRepository(session).append(admin.key_id, "project.create", project.id)
        return ProjectObject.of(project)


@router.post("/keys", summary="Create an API key", responses=errors(400, 401, 403, 404, 413, 503))
def create(context: ContextDep, admin: AdminDep, body: KeyCreate) -> NewKey:
    """Make a key. Its secret is in this answer and nowhere else."""
    with context.write() as session:
        key, secret = create_key(session, body.project_id, body.role)
        AdminAuditRepository(session).append(admin.key_id, "key.create", key.id, {"role": key.role})
        return NewKey(**KeyObject.of(key).model_dump(), secret=secret)


@router.get("/keys", summary="List API keys", responses=errors(400, 401, 403, 503))
def list_all(
    context: ContextDep,
    project_id: Annotated[str | None, Query(max_length=128)] = None,
) -> Page[KeyObject]:
    """All keys by age, revoked ones too, or those of one project."""
    with context.read() as session:
        return Page(data=[KeyObject.of(key) for key in list_keys(session, project_id)])


@router.delete("/keys/{key_id}", summary="Revoke an API key", responses=errors(401, 403, 404, 503))
def revoke(context: ContextDep, admin: AdminDep, key_id: str) -> KeyObject:
    """Make a key useless from the next request on."""
    with context.write() as session:
        revoke_key(session, key_id)
        AdminAuditRepository(session).append(admin.key_id, "key.revoke", key_id)
        return next(KeyObject.of(key) for key in list_keys(session) if key.id == key_id)
