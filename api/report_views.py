"""A job's safety report as its owner and as an admin see it: the document, the page and the picture."""

from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from api.auth import Caller
from api.context import Context
from service.db.models import Job
from service.db.repositories.audit import AdminAuditRepository
from service.db.repositories.evaluations import EvaluationRepository
from service.safety_reports import read_document, read_picture
from tvaccine_core.errors import InvalidRequest, NotFound
from tvaccine_core.evaluation.report.document import ScoringReport

PRIVATE = {"cache-control": "private, no-store", "x-content-type-options": "nosniff"}
# The page shows what a model wrote: the browser runs nothing and fetches nothing, whatever the page says.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def note_reading(session: Session, admin: Caller, job_id: str) -> None:
    """Leave in the audit trail who reads what a model said to harmful prompts."""
    AdminAuditRepository(session).append(admin.key_id, "safety_report.read", job_id)


def report_key(context: Context, job: Job) -> str:
    """Where the report of the job's last scoring is stored. Raises NotFound."""
    with context.read() as session:
        last = EvaluationRepository(session).latest(job.id)
    if last is None:
        raise NotFound("This job has no safety report yet: it is made once the tuned model has been scored.")
    return last.report_key


def report_document(context: Context, job: Job, *, full: bool) -> ScoringReport:
    """The report of the last scoring, without texts unless `full`. Raises NotFound."""
    key = report_key(context, job)
    try:
        return read_document(context.store, key, full=full, state=job.state)
    except InvalidRequest as error:
        message = "The model was scored by an earlier version of this server; its report is under /safety."
        raise NotFound(message) from error


def report_page(context: Context, job: Job, *, full: bool) -> HTMLResponse:
    """The page of the last scoring. Raises NotFound."""
    # Imported when it is asked for: the template engine would lengthen every start of the API.
    from tvaccine_core.evaluation.report.page import render_page

    text = render_page(report_document(context, job, full=full), full=full, subject=job.id)
    return HTMLResponse(text, headers={**PRIVATE, "content-security-policy": PAGE_POLICY})


def report_picture(context: Context, job: Job) -> Response:
    """The picture of the last scoring, which shows no texts. Raises NotFound."""
    picture = read_picture(context.store, report_key(context, job))
    if picture is None:
        raise NotFound("This safety report has no picture; its page shows the same figures.")
    return Response(picture, media_type="image/png", headers=PRIVATE)
