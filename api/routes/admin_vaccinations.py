"""Vaccinations of base models, for admins."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from sqlalchemy.orm import Session

from api.auth import AdminDep, administrator
from api.context import ContextDep
from api.openapi import binary, errors
from api.pagination import After, Limit, page
from api.report_views import PRIVATE
from api.schemas.job_history import JobEvent
from api.schemas.lists import Page
from api.schemas.vaccinations import Vaccination, VaccinationCreate
from service.certificates import read_certificate, read_picture
from service.db.models import Vaccine
from service.db.repositories.audit import AdminAuditRepository
from service.db.repositories.events import EventRepository
from service.db.repositories.jobs import JobQueueRepository
from service.db.repositories.vaccines import AdminVaccineRepository
from service.domain.job_state import request_cancel
from service.vaccines import activate, open_vaccination, plan_vaccination
from tvaccine_core.certificate.document import Certificate
from tvaccine_core.errors import Conflict, NotFound

router = APIRouter(prefix="/v1/admin/vaccinations", tags=["admin"], dependencies=[Depends(administrator)])


@router.post("", summary="Vaccinate a base model", responses=errors(400, 401, 403, 404, 413, 503))
def create(context: ContextDep, admin: AdminDep, body: VaccinationCreate) -> Vaccination:
    """Queue a vaccination; if exactly this one is queued or running already, that one is returned."""
    settings = context.settings
    files = {
        "alignment": body.alignment_file,
        "harmful": body.harmful_file,
        "gate_prompts": body.gate_prompts_file,
    }
    # Reading and comparing the data takes a while, so it holds no write lock.
    with context.read() as session:
        plan = plan_vaccination(
            session,
            settings,
            body.base or settings.base,
            body.method,
            body.config,
            files,
            project_id=admin.project_id,
        )
    with context.write() as session:
        vaccine, job = open_vaccination(
            session, settings, plan, project_id=admin.project_id, actor=admin.key_id, activate=body.when_ready
        )
        return Vaccination.of(vaccine, job)


@router.get("", summary="List vaccinations", responses=errors(400, 401, 403, 503))
def list_vaccinations(
    context: ContextDep,
    base: Annotated[str | None, Query(max_length=256)] = None,
    after: After = None,
    limit: Limit = 20,
) -> Page[Vaccination]:
    """All vaccines, newest first."""
    with context.read() as session:
        rows = AdminVaccineRepository(session).list(base=base, after=after, limit=limit + 1)
        return page(rows, limit, lambda vaccine: show(session, vaccine))


@router.get("/{vaccine_id}", summary="Retrieve a vaccination", responses=errors(401, 403, 404, 503))
def retrieve(context: ContextDep, vaccine_id: str) -> Vaccination:
    """One vaccine, and how far its job is."""
    with context.read() as session:
        return show(session, require_vaccine(session, vaccine_id))


@router.get("/{vaccine_id}/events", summary="List a vaccination's events", responses=errors(400, 401, 403, 404, 503))
def list_events(context: ContextDep, vaccine_id: str, after: After = None, limit: Limit = 20) -> Page[JobEvent]:
    """The events of its job, newest first."""
    with context.read() as session:
        job_id = job_of(require_vaccine(session, vaccine_id))
        return page(EventRepository(session).list(job_id, after=after, limit=limit + 1), limit, JobEvent.of)


@router.post("/{vaccine_id}/activate", summary="Activate a vaccine", responses=errors(401, 403, 404, 409, 503))
def make_active(context: ContextDep, admin: AdminDep, vaccine_id: str) -> Vaccination:
    """Give this vaccine to the jobs of its base that start from now on; jobs that have one keep it.

    Any version that is ready can be activated, also an earlier one. Where the server requires a certificate, a vaccine
    that has not passed one is `409 vaccine_not_certified`.
    """
    with context.write() as session:
        return show(session, activate(session, context.settings, vaccine_id, admin.key_id))


@router.get(
    "/{vaccine_id}/certificate", summary="Retrieve a vaccine's certificate", responses=errors(401, 403, 404, 503)
)
def certificate(context: ContextDep, vaccine_id: str) -> Certificate:
    """What the vaccine withstood when it was attacked. 404 where no certificate was made."""
    with context.read() as session:
        return read_certificate(context.store, require_vaccine(session, vaccine_id))


@router.get(
    "/{vaccine_id}/certificate.png",
    summary="A vaccine's certificate as a picture",
    response_class=Response,
    responses={**errors(401, 403, 404, 503), 200: binary("image/png", "Scores and layers, 1200 pixels wide.")},
)
def certificate_picture(context: ContextDep, vaccine_id: str) -> Response:
    """Harmful scores before and after each attack, and the alignment's layers. 404 where there is none."""
    with context.read() as session:
        picture = read_picture(context.store, require_vaccine(session, vaccine_id))
    return Response(picture, media_type="image/png", headers=PRIVATE)


@router.post("/{vaccine_id}/cancel", summary="Cancel a vaccination", responses=errors(401, 403, 404, 409, 503))
def cancel(context: ContextDep, admin: AdminDep, vaccine_id: str) -> Vaccination:
    """Stop the job that makes this vaccine. Jobs that wait for it fail."""
    with context.write() as session:
        vaccine = require_vaccine(session, vaccine_id)
        request_cancel(session, job_of(vaccine))
        AdminAuditRepository(session).append(admin.key_id, "vaccine.cancel", vaccine_id)
        return show(session, require_vaccine(session, vaccine_id))


def require_vaccine(session: Session, vaccine_id: str) -> Vaccine:
    """The vaccine. Raises NotFound."""
    vaccine = AdminVaccineRepository(session).get(vaccine_id)
    if vaccine is None:
        raise NotFound(f"No vaccine {vaccine_id[:100]!r}.")
    return vaccine


def job_of(vaccine: Vaccine) -> str:
    """The id of the job that makes the vaccine. Raises Conflict for one that was made elsewhere."""
    if vaccine.job_id is None:
        raise Conflict(f"Vaccine {vaccine.id} was not made by a job of this server.")
    return vaccine.job_id


def show(session: Session, vaccine: Vaccine) -> Vaccination:
    """The vaccine with its job, as the wire shows them."""
    job = None if vaccine.job_id is None else JobQueueRepository(session).get(vaccine.job_id)
    return Vaccination.of(vaccine, job)
