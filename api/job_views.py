"""Jobs as their owner sees them: the row, its policy, its place in the queue and its vaccine."""

from collections.abc import Callable

from sqlalchemy.orm import Session

from api.schemas.job_policy import JobPolicy
from api.schemas.jobs import FineTuningJob
from service.configurations import screening_policy
from service.db.models import FINE_TUNING, Job, Vaccine
from service.db.repositories.jobs import JobQueueRepository, JobRepository
from service.db.repositories.screenings import ScreeningRepository
from service.db.repositories.vaccines import AdminVaccineRepository
from service.ids import storable
from service.settings import Settings
from tvaccine_core.errors import NotFound


def require_job(session: Session, project_id: str, job_id: str) -> Job:
    """The project's job. Raises NotFound, for a job of another project too."""
    job = JobRepository(session, project_id).get(job_id)
    if job is None:
        raise NotFound(f"No fine-tuning job {job_id[:100]!r} in this project.")
    return job


def require_any_job(session: Session, job_id: str) -> Job:
    """A fine-tuning job of any project, for admins. Raises NotFound."""
    job = JobQueueRepository(session).get(job_id) if storable(job_id) else None
    if job is None or job.kind != FINE_TUNING:
        raise NotFound(f"No fine-tuning job {job_id[:100]!r} on this server.")
    return job


def job_viewer(session: Session, settings: Settings, project_id: str) -> Callable[[Job], FineTuningJob]:
    """A function that shows jobs of one project; each vaccine is looked up once."""
    jobs, vaccines = JobRepository(session, project_id), AdminVaccineRepository(session)
    screenings, screened_by = ScreeningRepository(session), screening_policy(settings)
    known: dict[str, Vaccine | None] = {}

    def view(job: Job) -> FineTuningJob:
        if job.vaccine_id is not None and job.vaccine_id not in known:
            known[job.vaccine_id] = vaccines.get(job.vaccine_id)
        vaccine = None if job.vaccine_id is None else known[job.vaccine_id]
        screening = screenings.get(job.id)
        return FineTuningJob.of(
            job,
            policy=JobPolicy.of(job, screening, screened_by),
            queue_position=jobs.queue_position(job),
            vaccine=vaccine,
            screening=screening,
        )

    return view
