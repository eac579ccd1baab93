"""What happened to a job: its events and its checkpoints."""

from fastapi import APIRouter

from api.auth import CallerDep
from api.context import ContextDep
from api.job_views import require_job
from api.openapi import errors
from api.pagination import After, Limit, bounded_page, page
from api.schemas.job_history import JobCheckpoint, JobEvent
from api.schemas.lists import BoundedPage, Page
from service.db.repositories.checkpoints import CheckpointRepository
from service.db.repositories.events import EventRepository
from service.releases import model_name

router = APIRouter(prefix="/v1/fine_tuning/jobs/{job_id}", tags=["fine-tuning"])


@router.get("/events", summary="List a job's events", responses=errors(400, 401, 404, 503))
def list_events(
    context: ContextDep, caller: CallerDep, job_id: str, after: After = None, limit: Limit = 20
) -> Page[JobEvent]:
    """Events, newest first."""
    with context.read() as session:
        require_job(session, caller.project_id, job_id)
        rows = EventRepository(session).list(job_id, after=after, limit=limit + 1)
        return page(rows, limit, JobEvent.of)


@router.get("/checkpoints", summary="List a job's checkpoints", responses=errors(400, 401, 404, 503))
def list_checkpoints(
    context: ContextDep, caller: CallerDep, job_id: str, after: After = None, limit: Limit = 10
) -> BoundedPage[JobCheckpoint]:
    """Checkpoints, newest first."""
    with context.read() as session:
        name = model_name(require_job(session, caller.project_id, job_id))
        rows = CheckpointRepository(session).list(job_id, after=after, limit=limit + 1)
        return bounded_page(rows, limit, lambda row: JobCheckpoint.of(row, name), lambda row: row.id)
