"""Safety reports on the wire."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class Scoring(BaseModel):
    """One scoring of a job's adapter."""

    id: str
    attempt: int
    created_at: int
    verdict: str | None
    summary: dict[str, Any]


class SafetyReport(BaseModel):
    """What was measured on a job's adapter, and what the gate made of it."""

    object: Literal["fine_tuning.job.safety"] = "fine_tuning.job.safety"
    job_id: str
    status: str
    stage: str | None
    verdict: str | None = Field(description="`pass`, `fail`, or null while there is no scoring.")
    redacted: bool = Field(description="True for owners: the prompts and the model's answers are left out.")
    report: dict[str, Any] | None = Field(description="The last scoring in full; null before there is one.")
    scorings: list[Scoring] = Field(description="All scorings, newest first.")
