"""The safety report of a job: numbers for its owner, everything for an admin."""

from fastapi import APIRouter
from sqlalchemy.orm import Session

from api.auth import Caller, CallerDep
from api.context import ContextDep
from api.job_views import require_any_job, require_job
from api.openapi import errors
from api.report_views import note_reading
from api.schemas.safety import SafetyReport, Scoring
from service.db.models import Evaluation, Job
from service.db.repositories.evaluations import EvaluationRepository
from service.domain.job_state import public_status
from service.redaction import redact_report
from service.safety_reports import read_report

router = APIRouter(prefix="/v1/fine_tuning/jobs/{job_id}", tags=["fine-tuning"])


@router.get("/safety", summary="Retrieve a job's safety report", responses=errors(401, 404, 503))
def safety(context: ContextDep, caller: CallerDep, job_id: str) -> SafetyReport:
    """The scorings of the job's adapter. With an admin key, of any project, with prompts and answers, and audited."""
    with context.write() if caller.is_admin else context.read() as session:
        job = visible_job(session, caller, job_id)
        if caller.is_admin:
            note_reading(session, caller, job_id)
        scorings = EvaluationRepository(session).list(job_id)
    last = scorings[0] if scorings else None
    return SafetyReport(
        job_id=job.id,
        status=public_status(job),
        stage=job.stage,
        verdict=None if last is None else last.verdict,
        redacted=not caller.is_admin,
        report=None
        if last is None
        else redact_report(read_report(context.store, last.report_key, state=job.state), full=caller.is_admin),
        scorings=[show(scoring) for scoring in scorings],
    )


def visible_job(session: Session, caller: Caller, job_id: str) -> Job:
    """The job, if the caller may see its report. Raises NotFound."""
    return require_any_job(session, job_id) if caller.is_admin else require_job(session, caller.project_id, job_id)


def show(scoring: Evaluation) -> Scoring:
    """A scoring as the wire shows it."""
    return Scoring(
        id=scoring.id,
        attempt=scoring.attempt,
        created_at=int(scoring.created_at),
        verdict=scoring.verdict,
        summary=scoring.summary,
    )
