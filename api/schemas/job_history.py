"""Events and checkpoints of jobs on the wire."""

from typing import Literal

from pydantic import BaseModel, Field, JsonValue

from service.db.models import Checkpoint, Event


class JobEvent(BaseModel):
    """Something that happened to a job."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: str = Field(default="message", description="`message`, `metrics` or `moderation_checks`.")
    data: JsonValue = None

    @classmethod
    def of(cls, event: Event) -> "JobEvent":
        """The record as the wire shows it."""
        return cls.model_validate(
            {
                "id": event.id,
                "created_at": int(event.created_at),
                "level": event.level,
                "message": event.message,
                "type": event.type,
                "data": event.data,
            }
        )


class JobCheckpoint(BaseModel):
    """A checkpoint of a job, from which a later attempt goes on. It is never released."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float | None]

    @classmethod
    def of(cls, checkpoint: Checkpoint, model_name: str) -> "JobCheckpoint":
        """The record as the wire shows it; `model_name` is what the job's model is called once released."""
        numbers = {
            name: float(value)
            for name, value in checkpoint.metrics.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        return cls(
            id=checkpoint.id,
            created_at=int(checkpoint.created_at),
            fine_tuned_model_checkpoint=f"{model_name}:ckpt-step-{checkpoint.step}",
            fine_tuning_job_id=checkpoint.job_id,
            step_number=checkpoint.step,
            metrics={"step": float(checkpoint.step), **numbers},
        )
