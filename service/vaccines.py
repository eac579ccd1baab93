"""The life of vaccines: asked for, made by a job, active for a base, pinned by the jobs that use them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service import certificates, ids, vaccine_data
from service.configurations import score_config, vaccine_config
from service.db.models import FAILED, READY, VACCINATION, Job, Vaccine
from service.db.repositories.audit import AdminAuditRepository
from service.db.repositories.jobs import JobQueueRepository
from service.db.repositories.vaccines import AdminVaccineRepository
from service.domain import job_state
from service.domain.job_state import Claim
from service.jobs import require_base
from service.settings import Settings
from service.vaccine_data import ALIGNMENT, GATE_PROMPTS, HARMFUL, Source
from tvaccine_core.alignment.methods import read_alignment_rows
from tvaccine_core.data.datasets import read_prompts
from tvaccine_core.errors import Conflict, InvalidRequest, NotFound, Unavailable

SERVICE = "service"
_TRIES = 3
_LOOKED_AT = 50


@dataclass(frozen=True)
class Plan:
    """A checked request for a vaccine."""

    base: str
    config: dict[str, Any]
    sources: Mapping[str, Source]

    @property
    def digests(self) -> dict[str, str]:
        """``sha256:...`` of the data by role."""
        return {role: source.digest for role, source in self.sources.items()}

    @property
    def key(self) -> str:
        """The same for two requests that would make the same vaccine."""
        text = json.dumps([self.base, self.config, self.digests], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def plan_vaccination(
    session: Session,
    settings: Settings,
    base: str,
    method: str | None = None,
    config: Mapping[str, Any] | None = None,
    files: Mapping[str, str | None] | None = None,
    *,
    project_id: str | None = None,
) -> Plan:
    """Check a request; reads the data, so call it in a read transaction where the data may be large.

    config: fields of the method's settings that override the server's. files: see `vaccine_data.find_sources`.
    Raises UnknownBase, InvalidRequest, InvalidTrainingFile, DatasetOverlap.
    """
    require_base(settings, base)
    merged = vaccine_config(settings, method, config)
    sources = vaccine_data.find_sources(session, settings, project_id, files, shared=merged.may_share_prompts)
    read_alignment_rows(merged, sources[ALIGNMENT].path, sources[HARMFUL].path)
    prompts, needed = len(read_prompts(sources[GATE_PROMPTS].path)), score_config(settings).batch_prompts
    if prompts < needed:
        message = f"{GATE_PROMPTS} holds {prompts} prompts and one round of the gate needs {needed}. Add some."
        raise InvalidRequest(message, param=f"{GATE_PROMPTS}_file")
    certificates.require_usable_data(settings, {role: source.path for role, source in sources.items()})
    return Plan(base, merged.to_dict(), sources)


def open_vaccination(
    session: Session,
    settings: Settings,
    plan: Plan,
    *,
    project_id: str | None = None,
    actor: str = SERVICE,
    activate: bool = False,
) -> tuple[Vaccine, Job]:
    """Queue the planned vaccination; if exactly this one is queued or running already, that one is returned.

    activate: make the vaccine the active one of its base when it is ready.
    """
    for _ in range(_TRIES):  # a unique constraint decides between two that ask at once
        known = _open_as_planned(session, plan, activate)
        if known is not None:
            return known
        try:
            with session.begin_nested():
                vaccine, job = _insert(session, settings, plan, project_id, activate)
        except IntegrityError:
            continue
        data = {"job_id": job.id, "method": vaccine.method, "digests": plan.digests, "activate": activate}
        AdminAuditRepository(session).append(actor, "vaccine.request", vaccine.id, data)
        return vaccine, job
    raise Unavailable("Several vaccinations were asked for at once. Ask again.")


def request_vaccination(
    session: Session,
    settings: Settings,
    base: str,
    method: str | None = None,
    config: Mapping[str, Any] | None = None,
    files: Mapping[str, str | None] | None = None,
    *,
    project_id: str | None = None,
    actor: str = SERVICE,
    activate: bool = False,
) -> tuple[Vaccine, Job]:
    """`plan_vaccination` and `open_vaccination` in one transaction."""
    plan = plan_vaccination(session, settings, base, method, config, files, project_id=project_id)
    return open_vaccination(session, settings, plan, project_id=project_id, actor=actor, activate=activate)


def ensure_vaccine(session: Session, settings: Settings, base: str) -> Vaccine:
    """The active vaccine of `base`, else the one being made that will become it, asked for if there is none.

    In a transaction that parks a job next, the vaccine returned cannot become ready unseen: its row is
    locked. Raises Unavailable when the same vaccine has already failed the certificate that is required.
    """
    vaccines = AdminVaccineRepository(session)
    vaccine = vaccines.active(base) or vaccines.open_for(base, lock=True) or vaccines.active(base)
    if vaccine is not None:
        return vaccine
    plan = plan_vaccination(session, settings, base)
    _require_hope(session, settings, plan)
    return open_vaccination(session, settings, plan, activate=True)[0]


def take_vaccine(session: Session, settings: Settings, claim: Claim) -> Vaccine | None:
    """The ready vaccine that the claimed job works with, pinned to it from now on.

    None: there is none yet and the job was parked until it is made, or the claim is lost, or the job is to
    be cancelled. Raises Unavailable when the job's own vaccine failed, or lacks the certificate that is required,
    however it came to be the job's.
    """
    job = JobQueueRepository(session).get(claim.job_id)
    if job is None:
        return None
    vaccine = None if job.vaccine_id is None else AdminVaccineRepository(session).get(job.vaccine_id)
    if vaccine is None:
        vaccine = ensure_vaccine(session, settings, job.base)
    if vaccine.state == READY:
        refused = certificates.refusal(settings, vaccine)
        if refused is not None:
            message = f"{refused} Create the job again when a certified vaccine is active."
            raise Unavailable(message, code=job_state.VACCINATION_FAILED)
        return vaccine if job_state.pin(session, claim, vaccine.id) else None
    if vaccine.state == FAILED:
        raise Unavailable(f"Vaccine {vaccine.id} could not be made.", code=job_state.VACCINATION_FAILED)
    job_state.park(session, claim, vaccine.id)
    return None


def complete_vaccination(
    session: Session,
    settings: Settings,
    claim: Claim,
    *,
    storage_key: str,
    sha256: str,
    base_digest: str,
    report: Mapping[str, Any],
    certificate: Mapping[str, Any] | None = None,
) -> bool:
    """End a vaccination job well: its vaccine is ready, active if that was asked for, and no job waits.

    certificate: the summary of what the vaccine withstood. Where a certificate is required and this one was not passed,
    the vaccine is ready but stays inactive, and the jobs that wait for it fail.
    False, and nothing is written, when the claim is lost or the job is to be cancelled.
    """
    if not job_state.succeed(session, claim, base_digest=base_digest):
        return False
    vaccines = AdminVaccineRepository(session)
    vaccine = vaccines.get_by_job(claim.job_id)
    if vaccine is None:
        raise NotFound(f"Job {claim.job_id} makes no vaccine.")
    # First this row, then the waiting jobs: a job that parks at the same time holds its lock.
    told = dict(report) if certificate is None else {**report, certificates.REPORTED: dict(certificate)}
    vaccines.mark_ready(vaccine.id, storage_key=storage_key, sha256=sha256, base_digest=base_digest, report=told)
    _put_to_use(session, settings, vaccines.get(vaccine.id) or vaccine)
    return True


def _put_to_use(session: Session, settings: Settings, vaccine: Vaccine) -> None:
    """Activate a vaccine that has just become ready, if that was asked for, and let go of the jobs that wait for it."""
    refused = certificates.refusal(settings, vaccine)
    if refused is None:
        if vaccine.activate_when_ready:
            activate(session, settings, vaccine.id, SERVICE)
        job_state.unpark(session, vaccine.id)
        return
    if vaccine.activate_when_ready:
        data = {"base": vaccine.base, "reason": refused}
        AdminAuditRepository(session).append(SERVICE, "vaccine.activate_refused", vaccine.id, data)
    job_state.fail_waiting(session, vaccine.id, refused)


def settle_waiting(session: Session) -> int:
    """Queue every waiting job whose vaccine is ready, and fail those whose vaccine failed; how many moved.

    A safety net for the dispatcher: `complete_vaccination` and a failing vaccination do the same at once.
    """
    vaccines, moved = AdminVaccineRepository(session), 0
    for vaccine_id in {job.vaccine_id for job in JobQueueRepository(session).waiting()} - {None}:
        vaccine = vaccines.get(str(vaccine_id))
        if vaccine is not None and vaccine.state == READY:
            moved += job_state.unpark(session, vaccine.id)
        elif vaccine is None or vaccine.state == FAILED:
            moved += job_state.fail_waiting(session, str(vaccine_id), "it failed")
    return moved


def activate(session: Session, settings: Settings, vaccine_id: str, actor: str) -> Vaccine:
    """Give this vaccine to the jobs of its base that start from now on; others keep theirs.

    With an earlier version this is the way back. Raises NotFound, and Conflict when it is not ready or (code
    ``vaccine_not_certified``) lacks the certificate that is required.
    """
    vaccines = AdminVaccineRepository(session)
    vaccine = _existing(session, vaccine_id)
    refused = certificates.refusal(settings, vaccine)
    if refused is not None:
        raise Conflict(refused, code=certificates.NOT_CERTIFIED)
    if not vaccines.activate(vaccine_id):
        raise Conflict(f"Vaccine {vaccine_id} is {vaccine.state}; only a ready one can be activated.")
    AdminAuditRepository(session).append(actor, "vaccine.activate", vaccine_id, {"base": vaccine.base})
    return vaccines.get(vaccine_id) or vaccine


def deactivate(session: Session, vaccine_id: str, actor: str) -> Vaccine:
    """Leave the base without an active vaccine; the next job that needs one has it made.

    Raises NotFound, and Conflict when it is not active.
    """
    vaccines = AdminVaccineRepository(session)
    vaccine = _existing(session, vaccine_id)
    if not vaccines.deactivate(vaccine_id):
        raise Conflict(f"Vaccine {vaccine_id} is not active.")
    AdminAuditRepository(session).append(actor, "vaccine.deactivate", vaccine_id, {"base": vaccine.base})
    return vaccines.get(vaccine_id) or vaccine


def _existing(session: Session, vaccine_id: str) -> Vaccine:
    vaccine = AdminVaccineRepository(session).get(vaccine_id)
    if vaccine is None:
        raise NotFound(f"No vaccine {vaccine_id[:100]!r}.")
    return vaccine


def _require_hope(session: Session, settings: Settings, plan: Plan) -> None:
    """Raise Unavailable when a vaccine from the same plan failed the required certificate under the same rules.

    To make it again would take as long and end alike: every waiting job would start it anew.
    """
    if settings.certificate != certificates.REQUIRED:
        return
    rules = certificates.current_rules(settings, {role: source.path for role, source in plan.sources.items()})
    for vaccine in AdminVaccineRepository(session).list(plan.base, limit=_LOOKED_AT):
        alike = (vaccine.state, vaccine.config, vaccine.digests) == (READY, plan.config, plan.digests)
        summary = certificates.summary_of(vaccine) or {}
        refused = certificates.refusal(settings, vaccine)
        if alike and refused is not None and summary.get("rules_sha256") == rules:
            message = f"{refused} Change the vaccine's settings or data, or activate another one."
            raise Unavailable(message, code=job_state.VACCINATION_FAILED)


def _open_as_planned(session: Session, plan: Plan, activate: bool) -> tuple[Vaccine, Job] | None:
    """The open vaccination with the same plan; it is activated when any of those who ask wants it to be."""
    vaccines = AdminVaccineRepository(session)
    vaccine = vaccines.open_by_key(plan.key, lock=True)
    job = None if vaccine is None else JobQueueRepository(session).get(str(vaccine.job_id))
    if vaccine is None or job is None:
        return None
    if activate and not vaccine.activate_when_ready:
        vaccines.request_activation(vaccine.id)
        vaccine = vaccines.get(vaccine.id) or vaccine
    return vaccine, job


def _insert(
    session: Session, settings: Settings, plan: Plan, project_id: str | None, activate: bool
) -> tuple[Vaccine, Job]:
    vaccines = AdminVaccineRepository(session)
    job_id = ids.new_id(ids.VACCINATION_JOB)
    vaccine = vaccines.add(
        Vaccine(
            id=ids.new_id(ids.VACCINE),
            base=plan.base,
            version=vaccines.next_version(plan.base),
            method=plan.config["method"],
            config=plan.config,
            files={},
            digests=plan.digests,
            job_id=job_id,
            open_key=plan.key,
            activate_when_ready=activate,
        )
    )
    # Copied only now: whoever lost the race for the row has left no copies.
    vaccine.files = vaccine_data.keep(settings, plan.sources)
    job = Job(
        id=job_id,
        kind=VACCINATION,
        project_id=project_id,
        base=plan.base,
        seed=plan.config["seed"],
        hyperparameters={},
        config=plan.config,
        vaccine_id=vaccine.id,
    )
    return vaccine, job_state.create(session, job)
