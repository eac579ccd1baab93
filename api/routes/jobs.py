"""Fine-tuning jobs: create, list, retrieve, cancel; pausing is refused in plain words."""

from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel

from api.auth import CallerDep
from api.context import ContextDep
from api.job_views import job_viewer, require_job
from api.metadata_filter import FILTER_PARAMETERS, MetadataFilterDep
from api.openapi import errors
from api.pagination import After, Limit, page
from api.schemas.job_requests import JobCreate
from api.schemas.jobs import FineTuningJob
from api.schemas.lists import Page
from service.db.repositories.jobs import JobRepository
from service.domain.job_state import request_cancel
from service.jobs import JobRequest, create_job
from tvaccine_core.errors import Conflict

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key with the same body gives the same job, however often it is sent.",
    ),
]


@router.post("", summary="Create a job", responses=errors(400, 401, 404, 409, 413, 503))
def create(
    context: ContextDep, caller: CallerDep, body: JobCreate, idempotency_key: IdempotencyKey = None
) -> FineTuningJob:
    """Queue a fine-tuning job. It is vaccinated, trained, scored, and released only if the score passes."""
    request = job_request(body, idempotency_key)
    with context.write() as session:
        job = create_job(session, context.settings, caller.project_id, request)
        return job_viewer(session, context.settings, caller.project_id)(job)


@router.get("", summary="List jobs", openapi_extra=FILTER_PARAMETERS, responses=errors(400, 401, 503))
def list_jobs(
    context: ContextDep, caller: CallerDep, wanted: MetadataFilterDep, after: After = None, limit: Limit = 20
) -> Page[FineTuningJob]:
    """The project's jobs, newest first."""
    with context.read() as session:
        jobs = JobRepository(session, caller.project_id)
        rows = jobs.list(after=after, limit=limit + 1, metadata=wanted.pairs, without_metadata=wanted.absent)
        return page(rows, limit, job_viewer(session, context.settings, caller.project_id))


@router.get("/{job_id}", summary="Retrieve a job", responses=errors(401, 404, 503))
def retrieve(context: ContextDep, caller: CallerDep, job_id: str) -> FineTuningJob:
    """The job as it is now."""
    with context.read() as session:
        return job_viewer(session, context.settings, caller.project_id)(require_job(session, caller.project_id, job_id))


@router.post("/{job_id}/cancel", summary="Cancel a job", responses=errors(401, 404, 409, 503))
def cancel(context: ContextDep, caller: CallerDep, job_id: str) -> FineTuningJob:
    """Cancel a queued job at once; a running one ends as `cancelled` as soon as its worker has stopped."""
    with context.write() as session:
        require_job(session, caller.project_id, job_id)
        return job_viewer(session, context.settings, caller.project_id)(request_cancel(session, job_id))


@router.post("/{job_id}/pause", summary="Refused", responses=errors(401, 404, 409, 503))
def pause(context: ContextDep, caller: CallerDep, job_id: str) -> FineTuningJob:
    """This server does not pause jobs; the answer is always an error."""
    raise unsupported(context, caller, job_id, "paused")


@router.post("/{job_id}/resume", summary="Refused", responses=errors(401, 404, 409, 503))
def resume(context: ContextDep, caller: CallerDep, job_id: str) -> FineTuningJob:
    """This server does not pause jobs, so none can be resumed; the answer is always an error."""
    raise unsupported(context, caller, job_id, "resumed")


def unsupported(context: ContextDep, caller: CallerDep, job_id: str, verb: str) -> Conflict:
    """The error for a job that exists. Raises NotFound for one that does not."""
    with context.read() as session:
        require_job(session, caller.project_id, job_id)
    return Conflict(
        f"A job cannot be {verb} on this server. A job whose worker is lost goes on by itself from its last "
        "checkpoint; to stop one, cancel it.",
        code="pause_not_supported",
    )


def job_request(body: JobCreate, idempotency_key: str | None) -> JobRequest:
    """The wire's request in the service's words."""
    wanted = body.integrations or []
    return JobRequest(
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=body.seed,
        hyperparameters=given(body.hyperparameters),
        method=given(body.method),
        metadata=body.metadata,
        integrations=[integration.model_dump(exclude_unset=True) for integration in wanted] or None,
        idempotency_key=idempotency_key,
    )


def given(part: BaseModel | None) -> dict[str, object] | None:
    """The fields of `part` that the caller sent."""
    return None if part is None else part.model_dump(exclude_unset=True)
