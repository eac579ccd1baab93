"""API keys: 256 random bits, shown once, kept as a SHA-256."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from sqlalchemy.orm import Session

from service import ids
from service.db.models import ApiKey, Project
from service.db.repositories.keys import AdminKeyRepository
from tvaccine_core.errors import InvalidRequest, NotFound

ROLES = ("admin", "user")
_START = "tv-"
_PREFIX_LENGTH = 11
_MAX_SECRET = 128


def ensure_project(session: Session, name: str = "default") -> Project:
    """The project with this name, made if there is none."""
    if not name.strip() or len(name) > 64 or not ids.storable(name):
        raise InvalidRequest("A project's name has 1 to 64 characters.", param="project")
    keys = AdminKeyRepository(session)
    return keys.project_named(name) or keys.add_project(Project(id=ids.new_id(ids.PROJECT), name=name))


def create_key(session: Session, project_id: str, role: str = "user") -> tuple[ApiKey, str]:
    """A new key and its secret ``tv-...``, which cannot be read again.

    Raises InvalidRequest for a role other than ``admin`` and ``user``, NotFound for an unknown project.
    """
    if role not in ROLES:
        raise InvalidRequest(f"A key's role is one of: {', '.join(ROLES)}.", param="role")
    keys = AdminKeyRepository(session)
    if keys.project(project_id) is None:
        raise NotFound(f"No project {project_id!r}.")
    secret = _START + secrets.token_urlsafe(32)
    key = ApiKey(
        id=ids.new_id(ids.API_KEY),
        project_id=project_id,
        role=role,
        prefix=secret[:_PREFIX_LENGTH],
        sha256=_digest(secret),
    )
    return keys.add(key), secret


def authenticate(session: Session, secret: str) -> ApiKey | None:
    """The key with this secret, unless it was revoked; None for any other text."""
    if not secret.startswith(_START) or len(secret) > _MAX_SECRET or not ids.storable(secret):
        return None
    digest, found = _digest(secret), None
    # Candidates are found by the part that is no secret, and compared in constant time.
    for key in AdminKeyRepository(session).by_prefix(secret[:_PREFIX_LENGTH]):
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found


def revoke_key(session: Session, key_id: str) -> None:
    """Make a key useless from the next request on. Raises NotFound when there is none to revoke."""
    if not AdminKeyRepository(session).revoke(key_id):
        raise NotFound(f"No key {key_id!r} that is not revoked already.")


def list_keys(session: Session, project_id: str | None = None) -> Sequence[ApiKey]:
    """All keys by age, or those of one project."""
    return AdminKeyRepository(session).list(project_id)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
