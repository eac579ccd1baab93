"""Is the process alive, and can it serve? Neither needs a key.

Alembic is imported by the checks that need it: it would slow every start down.
"""

import tempfile
from collections.abc import Callable
from functools import lru_cache

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from api.context import Context, ContextDep
from api.openapi import errors
from api.schemas.health import Health
from tvaccine_core.errors import Unavailable

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive?", responses=errors())
def healthz() -> Health:
    """Answers without touching the database."""
    return Health()


@router.get("/readyz", summary="Can the server do its work?", responses=errors(503))
def readyz(context: ContextDep) -> Health:
    """503 unless the database answers, its schema is the newest, and artefacts can be written."""
    faults = [{"check": name, "message": fault} for name, check in CHECKS if (fault := check(context)) is not None]
    if faults:
        words = " ".join(str(fault["message"]) for fault in faults)
        raise Unavailable(f"The server is not ready. {words}", details=list(faults))
    return Health()


def database_fault(context: Context) -> str | None:
    """Why the database cannot be used, None if it can."""
    from alembic.runtime.migration import MigrationContext

    try:
        with context.read() as session:
            found = MigrationContext.configure(session.connection()).get_current_revision()
    except SQLAlchemyError:
        return "The database does not answer; check TVACCINE_DATABASE_URL."
    wanted = newest_revision()
    if found != wanted:
        return f"The database schema is at {found or 'nothing'}, not at {wanted}; run the migrations."
    return None


def artefacts_fault(context: Context) -> str | None:
    """Why artefacts cannot be written, None if they can."""
    try:
        with tempfile.TemporaryFile(dir=context.settings.artefacts_dir) as probe:
            probe.write(b"ready")
    except OSError as error:
        return f"The artefact directory cannot be written: {error.strerror}."
    return None


@lru_cache(maxsize=1)
def newest_revision() -> str | None:
    """The schema revision that this program needs."""
    from service.db.migrate import head_revision

    return head_revision()


CHECKS: tuple[tuple[str, Callable[[Context], str | None]], ...] = (
    ("database", database_fault),
    ("artefacts", artefacts_fault),
)
