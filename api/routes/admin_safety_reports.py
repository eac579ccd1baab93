"""Safety reports of any project's jobs, for admins: with the prompts and what the model answered.

Who reads answers is in the audit trail, and is written there before they are shown.
"""

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from api.auth import AdminDep, Caller, administrator
from api.context import Context, ContextDep
from api.job_views import require_any_job
from api.openapi import binary, errors, page_of
from api.report_views import note_reading, report_document, report_page, report_picture
from service.db.models import Job
from tvaccine_core.evaluation.report.document import ScoringReport

router = APIRouter(prefix="/v1/admin/fine_tuning/jobs/{job_id}", tags=["admin"], dependencies=[Depends(administrator)])


@router.get(
    "/safety_report",
    summary="Retrieve a job's whole safety report",
    response_model_exclude_unset=True,
    responses=errors(401, 403, 404, 503),
)
def document(context: ContextDep, admin: AdminDep, job_id: str) -> ScoringReport:
    """The last scoring, with prompts and answers. 404 until there is one. The reading is in the audit trail."""
    return report_document(context, read_job(context, admin, job_id), full=True)


@router.get(
    "/safety_report.html",
    summary="A job's whole safety report as a page",
    response_class=Response,
    responses={**errors(401, 403, 404, 503), 200: page_of("The report with prompts and answers.")},
)
def page(context: ContextDep, admin: AdminDep, job_id: str) -> Response:
    """The report in plain words, and what the model said. The reading is in the audit trail."""
    return report_page(context, read_job(context, admin, job_id), full=True)


@router.get(
    "/safety_report.png",
    summary="Any job's safety report as a picture",
    response_class=Response,
    responses={**errors(401, 403, 404, 503), 200: binary("image/png", "The report's figures, 1200 pixels wide.")},
)
def picture(context: ContextDep, job_id: str) -> Response:
    """The same picture that the job's owner gets."""
    with context.read() as session:
        job = require_any_job(session, job_id)
    return report_picture(context, job)


def read_job(context: Context, admin: Caller, job_id: str) -> Job:
    """The job of any project, with a note of who reads what its model said. Raises NotFound."""
    with context.write() as session:
        job = require_any_job(session, job_id)
        note_reading(session, admin, job_id)
        return job
