"""What a job runs under, on the wire: known from its creation on."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from service.db.models import Job
from service.db.models import Screening as ScreeningRecord
from service.jobs import POLICY

PINNED = "As it was when the job was created."


class ScreeningPolicy(BaseModel):
    """What is done about training rows that the screening finds."""

    policy: str = Field(description="Flagged rows: `report`, `drop` or `block`.")
    unscored: str | None = Field(
        description="Rows that the judge cannot read: the same; null where a screening of an earlier version ran."
    )
    block_percent: float | None = Field(description="With `block`: a larger share of such rows fails the job.")

    @classmethod
    def of(cls, record: ScreeningRecord | None, current: Mapping[str, Any]) -> "ScreeningPolicy":
        """The one that the rows were screened under, and before that the server's."""
        if record is None:
            return cls.model_validate(current)
        told = record.summary
        unscored = (told.get("unscored") or {}).get("policy")
        return cls(policy=told["policy"], unscored=unscored, block_percent=told.get("block_percent"))


class JobPolicy(BaseModel):
    """The operator's policy for a job. `safety.defences` tells what of it really ran."""

    defences: list[dict[str, JsonValue]] = Field(
        description=f"Defences of the fine-tuning, each with its `name` and settings. {PINNED}"
    )
    repair: dict[str, JsonValue] | None = Field(
        description=f"`method` and settings of what is tried, once, if the model does not pass; null: nothing. {PINNED}"
    )
    screening: ScreeningPolicy = Field(
        description="The server's, as it is set now; once the rows are screened, the one that they were screened under."
    )

    @classmethod
    def of(cls, job: Job, screening: ScreeningRecord | None, current: Mapping[str, Any]) -> "JobPolicy":
        """current: the server's screening policy. A job of a version without policies runs under none."""
        pinned = job.config.get(POLICY, {})
        return cls(
            defences=pinned.get("defences", []),
            repair=pinned.get("repair"),
            screening=ScreeningPolicy.of(screening, current),
        )
