"""Fine-tuning jobs on the wire."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from api.schemas.job_policy import JobPolicy
from api.schemas.screening import Screening
from service.db.models import OPEN_STATES, Job, Vaccine
from service.db.models import Screening as ScreeningRecord
from service.domain.job_state import public_status

PublicStatus = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
# A scoring's texts never leave through the job: they are in the admin's safety report only.
TEXTS = frozenset({"answers"})


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None
    details: list[dict[str, JsonValue]] | None = Field(
        default=None, description="The first 100 single faults: bad rows, or the rows that a screening refused."
    )


class Progress(BaseModel):
    """How far the stage at hand has come."""

    model_config = ConfigDict(extra="allow")

    stage: str | None = None
    step: int | None = None
    total: int | None = None
    percent: float | None = None
    seconds_remaining: float | None = None

    @classmethod
    def of(cls, job: Job) -> "Progress | None":
        """The progress of a job that has not ended; None before its worker reports any."""
        if job.state not in OPEN_STATES or (job.stage is None and job.progress is None):
            return None
        progress = cls.model_validate({**(job.progress or {}), "stage": job.stage})
        if progress.percent is None and progress.step is not None and progress.total:
            progress.percent = round(100 * progress.step / progress.total, 1)
        return progress


class Safety(BaseModel):
    """What is known of the job's safety: its policy, the stage it is in, and the verdict once it is scored."""

    model_config = ConfigDict(extra="allow")

    stage: str | None = Field(
        description="screening, vaccinating, fine_tuning, scoring, repairing, rescoring, releasing."
    )
    policy: JobPolicy = Field(description="What the job runs under, from its creation on.")
    verdict: str | None = Field(default=None, description="`pass`, `fail` or null while not scored.")
    defences: list[str] | None = Field(
        default=None, description="What the scored model went through: the vaccine's method, then e.g. lisa, panacea."
    )
    repaired: bool | None = Field(default=None, description="Whether the verdict is that of a repaired model.")
    before_repair: JsonValue = Field(default=None, description="The scoring before the repair: numbers and reason.")
    harmful_score: JsonValue = Field(default=None, description="Percentages; lower is better.")
    report_url: str | None = Field(
        default=None, description="The safety report, relative to the server; null while not scored. Add .html or .png."
    )

    @classmethod
    def of(cls, job: Job, policy: JobPolicy) -> "Safety":
        """The job's policy, its stage and what its last scoring found."""
        known = {name: value for name, value in (job.verdict or {}).items() if name not in TEXTS}
        url = f"/v1/fine_tuning/jobs/{job.id}/safety_report" if known else None
        return cls.model_validate({**known, "stage": job.stage, "policy": policy, "report_url": url})


class JobVaccine(BaseModel):
    """The vaccine that the job's base was given first."""

    id: str
    version: int
    method: str

    @classmethod
    def of(cls, vaccine: Vaccine) -> "JobVaccine":
        """The record as a job shows it."""
        return cls(id=vaccine.id, version=vaccine.version, method=vaccine.method)


class FineTuningJob(BaseModel):
    """A fine-tuning job: OpenAI's fields, then ours from `progress` on."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int = Field(description="Unix seconds.")
    finished_at: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: PublicStatus
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    seed: int
    hyperparameters: dict[str, Any]
    error: JobError | None
    estimated_finish: int | None = None
    integrations: list[dict[str, Any]] | None = None
    method: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    progress: Progress | None = None
    safety: Safety
    screening: Screening | None = Field(default=None, description="Null until the training rows were screened.")
    queue_position: int | None = Field(default=None, description="1 is next; null unless queued.")
    attempt: int = Field(description="How often a worker started it.")
    vaccine: JobVaccine | None = None

    @classmethod
    def of(
        cls,
        job: Job,
        *,
        policy: JobPolicy,
        queue_position: int | None,
        vaccine: Vaccine | None,
        screening: ScreeningRecord | None = None,
    ) -> "FineTuningJob":
        """The record as the wire shows it."""
        return cls.model_validate(
            {
                "id": job.id,
                "created_at": int(job.created_at),
                "finished_at": None if job.finished_at is None else int(job.finished_at),
                "model": job.base,
                "fine_tuned_model": job.fine_tuned_model,
                "organization_id": job.project_id,
                "status": public_status(job),
                "training_file": job.training_file,
                "validation_file": job.validation_file,
                "result_files": [],
                "trained_tokens": job.trained_tokens,
                "seed": job.seed,
                "hyperparameters": job.hyperparameters,
                "error": job.error,
                "integrations": job.integrations,
                "method": job.method,
                "metadata": job.job_metadata,
                "progress": Progress.of(job),
                "safety": Safety.of(job, policy),
                "screening": None if screening is None else Screening.of(screening),
                "queue_position": queue_position,
                "attempt": job.attempt,
                "vaccine": None if vaccine is None else JobVaccine.of(vaccine),
            }
        )
