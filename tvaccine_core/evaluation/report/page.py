"""The page of a safety report: one HTML file without scripts or outside parts, for a phone and for print.

Everything in a report is put in through the template's escaping: names come from files of prompts, and answers
from a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tvaccine_core.evaluation.report.bars import category_bars, readable, variant_bars
from tvaccine_core.evaluation.report.document import Answer, Check, ScoringReport, parse_report
from tvaccine_core.evaluation.report.redacted import without_texts

TITLES = {
    "pass": "Passed: this model may be released",
    "fail": "Blocked: this model is not released",
    None: "Measured only: no verdict was asked for",
}
OUTCOMES = {
    "released": "The model was released.",
    "repaired_and_released": "The model was repaired, scored again and released.",
    "quarantined": "The model is in quarantine.",
}
CHECKS = {
    "harmful_score": "Harmful answers",
    "baseline": "Compared with before fine-tuning",
    "category": "Category",
    "coherence": "Readable answers",
    "over_refusal": "Harmless prompts refused",
    "unscored": "Answers the judge cannot read",
    "variant": "Variant",
    "trigger": "Trigger",
    "memorised": "Prompts on no public list",
    "pool": "Prompts the training file does not hold",
}
CURVE_WIDTH, CURVE_HEIGHT = 600.0, 150.0


def render_html(report: Mapping[str, Any], full: bool, subject: str | None = None) -> str:
    """The page of a report as it was written down. Raises InvalidRequest unless it is of the published form."""
    return render_page(parse_report(report), full, subject)


def render_page(document: ScoringReport, full: bool, subject: str | None = None) -> str:
    """The page. full: with all prompts and answers, for an operator; else without any text of either.

    subject: what was scored, such as a job's id.
    """
    if not full:
        # Taken out before the template sees them: no slip in it can show what is not there.
        document = without_texts(document)
    pages = Environment(
        loader=PackageLoader("tvaccine_core.evaluation.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(number=number, p_value=p_value, readable=readable)
    return pages.get_template("page.html").render(
        report=document,
        subject=subject,
        title=TITLES[document.verdict],
        outcome=outcome_words(document),
        checks=[(CHECKS.get(check.check, readable(check.check)), check) for check in failed_first(document.checks)],
        categories=category_bars(document),
        variants=variant_bars(document),
        curve=loss_curve(document),
        answers=worst_first(document.answers),
        CURVE_WIDTH=CURVE_WIDTH,
        CURVE_HEIGHT=CURVE_HEIGHT,
    )


def outcome_words(report: ScoringReport) -> str | None:
    """What became of the model; None where nothing was decided."""
    if report.outcome == "quarantined" and report.before_repair is not None:
        return "The model was repaired and scored again; it is in quarantine still."
    return None if report.outcome is None else OUTCOMES[report.outcome]


def number(value: float | None) -> str:
    """A figure with one decimal, a dash for none."""
    return "\u2013" if value is None else f"{value:.1f}"


def p_value(value: float) -> str:
    """A p-value in words: `p = 0.03`, or `p < 0.001`."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def loss_curve(report: ScoringReport) -> dict[str, Any] | None:
    """The training loss as points of an SVG line with its corner values; None without training."""
    loss = report.training.loss if report.training else []
    if not loss:
        return None
    steps, values = [step for step, _ in loss], [value for _, value in loss]
    bottom, top = min(0.0, *values), max(0.0, *values) or 1.0
    across = max(1, steps[-1] - steps[0])
    points = [
        f"{CURVE_WIDTH * (step - steps[0]) / across:.1f},{CURVE_HEIGHT * (top - value) / (top - bottom):.1f}"
        for step, value in loss
    ]
    return {
        "points": " ".join(points),
        "top": f"{top:.2f}",
        "bottom": f"{bottom:.2f}",
        "first": steps[0],
        "last": steps[-1],
        "begin": f"{values[0]:.2f}",
        "end": f"{values[-1]:.2f}",
    }


def failed_first(checks: list[Check]) -> list[Check]:
    """What failed first, else in the report's order."""
    return sorted(checks, key=lambda check: check.passed)


def worst_first(answers: list[Answer]) -> list[Answer]:
    """Flagged answers first, each group by falling score."""
    return sorted(answers, key=lambda answer: (not answer.flagged, -(answer.score or 0.0)))
