"""The safety report as a document: its fields and their meaning. The published JSON Schema is made from here.

One form serves two readers. The operator's holds `answers` with full text; the user's holds `examples` in their
place (category, score and length of an answer, never its text) and says so in `redacted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from tvaccine_core.errors import InvalidRequest

SCHEMA_NAME = "tvaccine.safety_report/1"

Percent = Annotated[float, Field(ge=0, le=100)]
Points = Annotated[float, Field(ge=-100, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Verdict = Literal["pass", "fail"]
Outcome = Literal["released", "repaired_and_released", "quarantined"]


class Part(BaseModel):
    """A part of the report. Later versions may add fields; a reader ignores those that it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class HarmfulScore(Part):
    """The share of answers to harmful prompts that the judge flags, with its 95 % Wilson interval."""

    percent: Percent
    low: Percent
    high: Percent
    flagged: Count
    n: Count = Field(description="Scored answers.")


class Check(Part):
    """One condition of the gate. All must hold."""

    check: str = Field(
        description="harmful_score, baseline, category, coherence, over_refusal, unscored, memorised, variant, "
        "trigger or pool; later versions may add others."
    )
    name: str = Field(description="The category or variant it is about, else the same as `check`.")
    passed: bool
    words: str = Field(description="What was found, in a sentence.")
    value: float | None = None
    low: float | None = Field(default=None, description="Lower end of the value's 95 % interval.")
    high: float | None = Field(default=None, description="Upper end of the value's 95 % interval.")
    limit: float | None = None
    n: Count | None = Field(default=None, description="Answers that the value rests on.")


class Category(HarmfulScore):
    """The harmful score within one category of prompts; those asked because something was flagged count too."""

    category: str
    limit: Percent | None = None
    baseline_percent: Percent | None = Field(default=None, description="The vaccinated model's on these prompts.")


class Variant(HarmfulScore):
    """The harmful score when the same prompts are put another way."""

    variant: str = Field(description="Such as sampled, system_prompt, jailbreak_prefix, trigger_1.")
    plain_percent: Percent | None = Field(default=None, description="The same prompts, put plainly.")


class Difference(Part):
    """Model minus baseline, in percentage points, with its 95 % interval."""

    points: Points
    low: Points
    high: Points


class Discordant(Part):
    """Prompts on which only one of the two models was flagged."""

    only_model: Count
    only_baseline: Count


class Baseline(Part):
    """The vaccinated model before fine-tuning, on the same prompts, and the paired comparison with it."""

    harmful_score: HarmfulScore
    difference: Difference | None = None
    p_value: Share | None = None
    discordant: Discordant | None = None


class Coherence(Part):
    """The share of answers that are readable text."""

    percent: Percent
    coherent: Count | None = None
    n: Count
    faults: dict[str, Count] = Field(default_factory=dict, description="Incoherent answers by the test they failed.")


class OverRefusal(Part):
    """The share of harmless prompts that the model turns down."""

    percent: Percent
    low: Percent | None = None
    high: Percent | None = None
    refused: Count
    faulty: Count | None = Field(default=None, description="Not refused, but answered in no coherent text.")
    n: Count
    limit: Percent | None = None
    baseline_percent: Percent | None = None


class BenignAnswer(Part):
    """An answer to a harmless prompt."""

    prompt: str
    answer: str
    refused: bool
    fault: str | None = None


class Refusal(Part):
    """Over-refusal in the form of earlier versions."""

    percent: Percent
    refused: Count
    faulty: Count | None = None
    n: Count
    answers: list[BenignAnswer] | None = Field(default=None, description="For operators only.")


class Task(Part):
    """Accuracy on the user's own validation rows, percent."""

    accuracy: Percent
    correct: Count
    n: Count


class Unscored(Part):
    """Answers that the judge cannot read, such as those in a language that it does not know."""

    n: Count
    percent: Percent
    limit: Percent | None = None
    reasons: dict[str, Count] = Field(default_factory=dict)


class ExpectedPrompts(Part):
    """Prompts that the sequential test asks on average of a model as good as `good`, and of one at the limit."""

    good: Annotated[float, Field(ge=0)]
    limit: Annotated[float, Field(ge=0)]


class Sequential(Part):
    """The sequential test: where it looked, what would have decided it there, and the prompts it saved."""

    looks: list[Count] = Field(default_factory=list, description="Numbers of answers after which it looked.")
    release_at: list[int] = Field(
        default_factory=list, description="Most flagged answers to release at a look; -1: it releases nobody."
    )
    block_at: list[int] = Field(default_factory=list, description="Fewest flagged answers to block at a look.")
    alpha: Share | None = Field(default=None, description="Highest chance to release a model at the limit.")
    beta: Share | None = Field(
        default=None, description="Highest chance to block a model as good as `good` before the last look."
    )
    limit: Percent | None = None
    good: Percent | None = None
    n_used: Count
    n_fixed: Count | None = Field(
        default=None, description="Prompts that a test with one look needs for the same error rates."
    )
    saved_percent: Annotated[float, Field(le=100)] | None = None
    release_at_limit: Share | None = Field(default=None, description="Exact chance to release a model at the limit.")
    block_at_good: Share | None = Field(default=None, description="Exact chance to block a model as good as `good`.")
    expected_n: ExpectedPrompts | None = None


class JudgeCard(Part):
    """Who judged the answers."""

    name: str
    version: str
    threshold: Share


class Prompts(Part):
    """Where the prompts came from. The pool itself is the operator's secret."""

    pool_sha256: str | None = None
    pool_size: Count | None = None
    drawn: Count | None = None
    composed: Count | None = Field(default=None, description="Of those drawn, how many stand on no list.")
    seen_in_training: Count | None = Field(default=None, description="Of the pool, how many the training file holds.")


class Training(Part):
    """How the fine-tuning went."""

    loss: list[tuple[Count, float]] = Field(description="[step, training loss] pairs, thinned out for long runs.")


class Answer(Part):
    """A prompt with the model's answer and the verdict on it. For operators only."""

    prompt: str
    answer: str
    category: str | None = None
    variant: str = "plain"
    score: Share | None = None
    flagged: bool = False
    coherent: bool | None = None
    fault: str | None = None
    scored: bool = True
    empty: str | None = Field(default=None, description="Why it holds nothing that could harm: label, one_word, echo.")


class Example(Part):
    """A flagged answer without its text."""

    category: str | None
    variant: str
    score: Share
    length: Count = Field(description="Length of the answer in characters.")


class BeforeRepair(Part):
    """The scoring that a model did not pass before it was repaired and scored again. It holds no answers."""

    harmful_score: HarmfulScore
    verdict: Verdict
    reason: str = Field(description="That verdict in words, with numbers.")


class ScoringReport(Part):
    """What was measured on a model, what the gate made of it, and why."""

    schema_name: Literal["tvaccine.safety_report/1"] = Field(alias="schema")
    verdict: Verdict | None = Field(description="null: measured only, the gate was not asked.")
    reason: str = Field(description="The verdict in words, with numbers.")
    outcome: Outcome | None = Field(
        default=None,
        description="What became of the model. null: measured only, or the job has not ended that way (yet).",
    )
    before_repair: BeforeRepair | None = Field(
        default=None, description="The first scoring of a model that was repaired; null: it was not repaired."
    )
    checks: list[Check]
    rule: dict[str, JsonValue] = Field(description="The settings of the scoring.")
    harmful_score: HarmfulScore
    baseline: Baseline | None = None
    categories: list[Category]
    variants: list[Variant] = Field(default_factory=list)
    coherence: Coherence
    over_refusal: OverRefusal | None = None
    refusal: Refusal | None = None
    task: Task | None = None
    unscored: Unscored | None = None
    sequential: Sequential | None = None
    rounds: list[dict[str, JsonValue]] = Field(default_factory=list)
    judge: JudgeCard
    prompts: Prompts | None = None
    prompts_sha256: str | None = None
    adapter_sha256: str | None = None
    base_digest: str | None = None
    base_name: str | None = None
    training: Training | None = None
    defences: list[str] = Field(
        default_factory=list,
        description="What the model went through: the vaccine's method, then the defences of its training.",
    )
    redacted: bool = Field(default=False, description="True in the user's version: no text of a prompt or an answer.")
    variant_texts: dict[str, str | None] = Field(
        default_factory=dict, description="In the operator's version: what a variant adds to a prompt."
    )
    examples: list[Example] = Field(
        default_factory=list, description="In the user's version, the highest scores first."
    )
    answers: list[Answer] = Field(default_factory=list, description="In the operator's version.")

    def failed(self, check: str, name: str) -> bool:
        """Is there a check of this kind and name that does not hold?"""
        return any((each.check, each.name) == (check, name) and not each.passed for each in self.checks)


def parse_report(report: Mapping[str, Any]) -> ScoringReport:
    """The report as a document. Raises InvalidRequest (code ``invalid_report``) naming the first fields at fault.

    The message holds names of fields only: values may be what a model said.
    """
    try:
        return ScoringReport.model_validate(report)
    except ValidationError as error:
        faults = [".".join(str(part) for part in fault["loc"]) for fault in error.errors(include_input=False)]
        raise InvalidRequest(
            f"This is not a safety report of the form {SCHEMA_NAME}; fields at fault: {', '.join(faults[:5])}. "
            "Score the model again with this version.",
            code="invalid_report",
        ) from None


def json_schema() -> dict[str, Any]:
    """The published schema of the report, JSON Schema draft 2020-12."""
    made = ScoringReport.model_json_schema(by_alias=True)
    made["title"] = "Safety report"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:{SCHEMA_NAME}", **made}
