"""What a claimed job asks for: its row as it was at the claim, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from service.db.repositories.files import AdminFileRepository
from service.db.repositories.jobs import JobQueueRepository
from service.jobs import POLICY
from tvaccine_core.errors import NotFound


@dataclass(frozen=True)
class JobOrder:
    """The parts of a job that the stages read; files by their key in the artefact store.

    policy: see `service.configurations.job_policy`; empty for a vaccination.
    """

    id: str
    kind: str
    base: str
    seed: int
    config: dict[str, Any]
    policy: dict[str, Any]
    vaccine_id: str | None
    training_key: str | None
    validation_key: str | None


def read_order(session: Session, job_id: str) -> JobOrder:
    """The order of a job. Raises NotFound when the job or one of its files has no record."""
    job = JobQueueRepository(session).get(job_id)
    if job is None:
        raise NotFound(f"No job {job_id!r}.")
    config = dict(job.config)
    return JobOrder(
        id=job.id,
        kind=job.kind,
        base=job.base,
        seed=job.seed,
        policy=config.pop(POLICY, {}),
        config=config,
        vaccine_id=job.vaccine_id,
        training_key=_storage_key(session, job.training_file, "training_file"),
        validation_key=_storage_key(session, job.validation_file, "validation_file"),
    )


def _storage_key(session: Session, file_id: str | None, param: str) -> str | None:
    if file_id is None:
        return None
    file = AdminFileRepository(session).get(file_id)
    if file is None:
        raise NotFound(f"The file {file_id} of this job is gone. Upload it and create the job again.", param=param)
    return file.storage_key
