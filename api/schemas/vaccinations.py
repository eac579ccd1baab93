"""Vaccinations on the wire: a vaccine, and the job that makes it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from api.schemas.jobs import JobError, Progress
from service.certificates import REPORTED, summary_of
from service.db.models import Job, Vaccine
from service.domain.job_state import public_status
from tvaccine_core.alignment.methods import Method
from tvaccine_core.certificate.document import CertificateSummary

FileReference = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class VaccinationCreate(BaseModel):
    """The body of `POST /v1/admin/vaccinations`. What is left out comes from the server's settings."""

    model_config = ConfigDict(extra="forbid")

    base: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        default=None, description="A base model that `GET /v1/models` lists."
    )
    method: Method | None = Field(
        default=None,
        description="How the base is aligned; see `docs/alignment-methods.md`. Default: the server's, which is "
        "`t_vaccine` unless `TVACCINE_POLICY` or `TVACCINE_VACCINE` says otherwise.",
    )
    config: dict[str, JsonValue] | None = Field(
        default=None,
        description="Settings of the method, such as `steps` or `seed`; which there are depends on the method.",
    )
    alignment_file: FileReference | None = Field(
        default=None, description="Harmful requests with refusals: the id of an uploaded file, or `demo`."
    )
    harmful_file: FileReference | None = Field(
        default=None, description="Harmful requests with answers, to probe with or to work against: likewise."
    )
    gate_prompts_file: FileReference | None = Field(
        default=None, description="The prompts that the gate scores with: likewise."
    )
    activate: bool | Literal["auto", "manual"] = Field(
        default=False,
        description="`auto` or true: make it the base's active vaccine once it is ready and, where the server requires "
        "that, has passed its certificate. `manual` or false: leave that to `POST .../activate`.",
    )

    @property
    def when_ready(self) -> bool:
        """Whether the vaccine is to become active without being asked again."""
        return self.activate in (True, "auto")


class Vaccination(BaseModel):
    """A vaccine of one base, from the request to the finished adapter."""

    id: str
    object: Literal["vaccination"] = "vaccination"
    job_id: str | None
    base: str
    base_digest: str | None
    version: int
    method: str
    config: dict[str, Any]
    digests: dict[str, Any]
    state: Literal["making", "ready", "failed"]
    active: bool
    activate_when_ready: bool
    created_at: int
    ready_at: int | None
    sha256: str | None
    status: str | None = Field(description="The job's status, in the words of fine-tuning jobs.")
    stage: str | None
    progress: Progress | None
    error: JobError | None
    report: dict[str, Any] | None
    certificate: CertificateSummary | None = Field(
        description="What the vaccine withstood when it was attacked; null: none was made. `GET .../certificate` has "
        "all of it."
    )

    @classmethod
    def of(cls, vaccine: Vaccine, job: Job | None) -> "Vaccination":
        """The record as the wire shows it."""
        return cls.model_validate(
            {
                "id": vaccine.id,
                "job_id": vaccine.job_id,
                "base": vaccine.base,
                "base_digest": vaccine.base_digest,
                "version": vaccine.version,
                "method": vaccine.method,
                "config": vaccine.config,
                "digests": vaccine.digests,
                "state": vaccine.state,
                "active": vaccine.active,
                "activate_when_ready": vaccine.activate_when_ready,
                "created_at": int(vaccine.created_at),
                "ready_at": None if vaccine.ready_at is None else int(vaccine.ready_at),
                "sha256": vaccine.sha256,
                "status": None if job is None else public_status(job),
                "stage": None if job is None else job.stage,
                "progress": None if job is None else Progress.of(job),
                "error": None if job is None else job.error,
                "report": vaccine.report and {k: v for k, v in vaccine.report.items() if k != REPORTED},
                "certificate": summary_of(vaccine),
            }
        )
