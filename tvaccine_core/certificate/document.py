"""The certificate as a document: its fields and their meaning. It holds numbers, names and digests, no text of a row,
a prompt or an answer. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.report.document import Check, Count, HarmfulScore, JudgeCard, Part, Percent

SCHEMA_NAME = "tvaccine.certificate/1"
Verdict = Literal["passed", "failed"]


class Score(HarmfulScore):
    """A harmful score, with the answers that the judge could not read."""

    unscored: Count = Field(description="Answers that count in no other figure; as harmful where a limit is checked.")


class Readable(Part):
    """The share of answers to harmful prompts that are readable text."""

    percent: Percent
    n: Count


class Refused(Part):
    """The share of harmless prompts that the model turns down, with its 95 % Wilson interval."""

    percent: Percent
    low: Percent
    high: Percent
    refused: Count
    n: Count


class Accuracy(Part):
    """Right answers to rows of the task that nobody trained on."""

    accuracy: Percent
    correct: Count
    n: Count


class AttackTraining(Part):
    """The fine-tuning that an attack consists of. harmful: rows of the attack among its rows."""

    rows: Count
    harmful: Count = Field(description="Rows of the attack; in a benign-looking one they are harmless one by one.")
    steps: Count
    train_loss: float


class Measured(Part):
    """One model, measured. as_attacker: asked in the attack's own template, where it has one."""

    harmful_score: Score
    as_attacker: Score | None = Field(default=None, description="The same prompts in the attacker's template.")
    coherence: Readable
    over_refusal: Refused
    task: Accuracy | None = Field(default=None, description="null: the task's answers are no labels.")
    training: AttackTraining | None = None
    seconds: float


class AttackResult(Part):
    """What came of one attack on the vaccinated model."""

    label: str
    settings: dict[str, JsonValue] = Field(description="The attack, and the training that differs.")
    limit: Percent
    vaccinated: Measured
    stock: Measured | None = Field(default=None, description="The same attack on the base without the vaccine.")


class Layer(Part):
    """Over the probes of the alignment, and how often the layer was drawn."""

    layer: Count = Field(description="0 is next to the embeddings.")
    first: float | None
    last: float | None
    mean: float | None
    drawn: Count


class Layers(Part):
    """Gradient norms of the harmful loss at the attention outputs, and the draws of the alignment."""

    unit: Literal["norm", "share"] = Field(description="share: of the sum over all layers.")
    probes: Count
    draws: Count
    layers: list[Layer]


class Certificate(Part):
    """What a vaccine was shown to withstand."""

    schema_name: Literal["tvaccine.certificate/1"] = Field(alias="schema")
    verdict: Verdict
    reason: str = Field(description="The verdict in words, with numbers.")
    checks: list[Check] = Field(description="All must hold.")
    base_name: str
    base_digest: str
    vaccine_sha256: str
    method: str | None = Field(default=None, description="How the vaccine was made.")
    clean: Measured
    stock: Measured | None = Field(default=None, description="The base without the vaccine, for comparison.")
    attacks: list[AttackResult]
    layers: Layers | None = Field(default=None, description="null: the method draws no layers.")
    judge: JudgeCard
    digests: dict[str, str] = Field(description="SHA-256 of the data by role.")
    rules_sha256: str = Field(description="Of the settings, the data and the judge's name.")
    settings: dict[str, JsonValue]
    seconds: float

    def summary(self) -> CertificateSummary:
        """The part that is kept beside the vaccine's record."""
        return CertificateSummary(
            verdict=self.verdict,
            reason=self.reason,
            harmful_score=self.clean.harmful_score.percent,
            over_refusal=self.clean.over_refusal.percent,
            attacks=[
                AttackSummary(label=one.label, harmful_score=worst(one.vaccinated), limit=one.limit)
                for one in self.attacks
            ],
            vaccine_sha256=self.vaccine_sha256,
            rules_sha256=self.rules_sha256,
        )


class AttackSummary(Part):
    """One attack in short."""

    label: str
    harmful_score: Percent = Field(description="After it, percent; the higher one if there are two ways of asking.")
    limit: Percent


class CertificateSummary(Part):
    """A certificate in short."""

    verdict: Verdict
    reason: str
    harmful_score: Percent = Field(description="Of the vaccinated model before any attack, percent.")
    over_refusal: Percent = Field(description="Harmless prompts that it refuses, percent.")
    attacks: list[AttackSummary]
    vaccine_sha256: str
    rules_sha256: str


def worst(measured: Measured) -> float:
    """The higher harmful score of the ways in which the model was asked, percent."""
    ways = (measured.harmful_score, measured.as_attacker)
    return max(score.percent for score in ways if score is not None)


def parse_certificate(values: Mapping[str, Any]) -> Certificate:
    """The certificate as a document. Raises InvalidRequest (code ``invalid_certificate``) naming fields at fault."""
    try:
        return Certificate.model_validate(values)
    except ValidationError as error:
        faults = [".".join(str(part) for part in fault["loc"]) for fault in error.errors(include_input=False)]
        raise InvalidRequest(
            f"This is not a certificate of the form {SCHEMA_NAME}; fields at fault: {', '.join(faults[:5])}. "
            "Certify the vaccine again with this version.",
            code="invalid_certificate",
        ) from None
