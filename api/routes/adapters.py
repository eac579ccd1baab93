"""The released adapter of a job, as a zip."""

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.auth import CallerDep
from api.context import ContextDep
from api.job_views import require_job
from api.openapi import binary, errors
from api.zip_stream import zip_stream
from service.db.models import RELEASED, SUCCEEDED, Adapter, Job
from service.db.repositories.adapters import AdapterRepository
from service.domain.job_state import TERMINAL
from tvaccine_core.errors import ModelNotReleased, NotFound

router = APIRouter(prefix="/v1/fine_tuning/jobs/{job_id}", tags=["fine-tuning"])


@router.get(
    "/adapter",
    summary="Download the released adapter",
    response_class=StreamingResponse,
    responses={**errors(401, 403, 404, 503), 200: binary("application/zip", "The adapter directory.")},
)
def download(context: ContextDep, caller: CallerDep, job_id: str) -> StreamingResponse:
    """A zip that PEFT, transformers and vLLM load onto the stock base. 403 until the job is released."""
    with context.read() as session:
        job = require_job(session, caller.project_id, job_id)
        adapter = released(job, AdapterRepository(session, caller.project_id).get_by_job(job_id))
    key = adapter.storage_key
    files = [(name, context.store.path(key, name)) for name in context.store.names(key)]
    headers = {
        "content-disposition": f'attachment; filename="{job_id}.zip"',
        "x-adapter-sha256": adapter.sha256,
    }
    return StreamingResponse(zip_stream(files), media_type="application/zip", headers=headers)


def released(job: Job, adapter: Adapter | None) -> Adapter:
    """The adapter, if the gate let it out. Raises ModelNotReleased, and NotFound for a deleted model."""
    if adapter is not None and adapter.place == RELEASED:
        return adapter
    if job.state == SUCCEEDED:
        raise NotFound("The model of this job was deleted.", code="model_not_found")
    if job.state in TERMINAL:
        reason = (job.error or {}).get("message") or f"The job was {job.state}."
        raise ModelNotReleased(f"The job's adapter was not released. {reason}")
    raise ModelNotReleased("The job's adapter is not released yet. Wait until the job has succeeded.")
