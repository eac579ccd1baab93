"""Screenings of training rows on the wire: which rows, why, how sure. No text: the rows are the user's own."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.db.models import Screening as ScreeningRecord

REASONS = (
    "harmful_answer, harmful_part, harmful_after_refusal, harmful_when_decoded, harmful_over_turns, "
    "harmful_system_message, harmful_context, known_harmful, gate_prompt, encoded, identity_shift, "
    "refuse_then_answer, unscored."
)


class FlaggedRow(BaseModel):
    """One row that should not be trained on, or (`unscored`) that the judge cannot read."""

    line: int = Field(description="Line of the training file, from 1.")
    score: float | None = Field(description="0 harmless to 1 harmful; 1 where a rule needs no judge; null if unscored.")
    reason: str = Field(description=f"The worst finding: {REASONS}")
    reasons: list[str] = Field(description="All findings of the row.")
    category: str | None = Field(description="Moderation category of the worst finding, if the judge names one.")
    turn: int = Field(description="Place of the worst finding's message in the row's chat form, from 0.")
    unread: str | None = Field(
        default=None, description="Language or script that the judge cannot read, in words; null if it reads all."
    )


class ListedRow(FlaggedRow):
    """A row in a listing."""

    id: str = Field(description="For `after`.")


class Unscored(BaseModel):
    """Rows that the judge cannot read, whether flagged or not."""

    policy: str = Field(description="`report`: told only; `drop`: left out of training; `block`: see `block_percent`.")
    n: int
    percent: float
    reasons: dict[str, int] = Field(description="Rows by language or script.")


class Screening(BaseModel):
    """What was found in a job's training rows before anyone trained on them."""

    model_config = ConfigDict(extra="ignore")

    policy: str = Field(description="`report`: told only; `drop`: left out of training; `block`: see `block_percent`.")
    block_percent: float | None = Field(description="With `block`: a larger share of such rows fails the job.")
    n: int = Field(description="Rows that were read.")
    flagged: int
    percent: float
    reasons: dict[str, int] = Field(default_factory=dict, description="Flagged rows by their worst finding.")
    unscored: Unscored | None = Field(default=None, description="Null for a screening before there was this figure.")
    pairs: int | None = Field(default=None, description="Looks that the judge took, of whole answers and parts.")
    sampled: int | None = Field(default=None, description="Rows so long that parts of them were left out.")
    judge: dict[str, Any] = Field(default_factory=dict)
    rows: list[FlaggedRow] = Field(description="The first flagged or unscored rows; `GET .../screening` lists all.")
    has_more: bool

    @classmethod
    def of(cls, record: ScreeningRecord) -> "Screening":
        """The record as a job shows it."""
        return cls.model_validate(record.summary)
