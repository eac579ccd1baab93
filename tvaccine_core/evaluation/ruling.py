"""From everything that a scoring run found to the checks, the verdict and the figures of its report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvaccine_core.evaluation.answers import (
    JudgedAnswer,
    coherence_figures,
    harmful_figures,
    share_figures,
    unscored_figures,
)
from tvaccine_core.evaluation.checks import (
    Check,
    baseline_check,
    category_check,
    coherence_check,
    harmful_check,
    memorised_check,
    over_refusal_check,
    pool_check,
    unscored_check,
    verdict,
)
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.examination import Examination, VariantResult, variant_limit
from tvaccine_core.evaluation.follow_up import FollowUp
from tvaccine_core.evaluation.paired import Pairs, count_pairs, difference, mcnemar
from tvaccine_core.evaluation.pool import COMPOSED, LISTED
from tvaccine_core.evaluation.sequential import Design

LEAST_SETTLED = 5
"""Answers of a category in doubt from which its share decides; with fewer its interval does."""

Refusals = dict[str, Any]
"""What `bench.measure_refusals` returns."""


@dataclass(frozen=True)
class Findings:
    """What was asked and answered. baseline: the vaccinated model's answers to the same prompts, in their order.

    followed: what categories in doubt were asked besides. seen: texts of the pool that the training file holds.
    """

    config: ScoreConfig
    plain: Examination
    design: Design | None = None
    baseline: Sequence[JudgedAnswer] | None = None
    variants: Sequence[VariantResult] = ()
    refusals: Refusals | None = None
    baseline_refusals: Refusals | None = None
    followed: FollowUp = field(default_factory=FollowUp)
    seen: Collection[str] = frozenset()

    def pairs(self) -> Pairs:
        """Model (first) and baseline (second) on the prompts where both answers were scored."""
        both = [(a, b) for a, b in zip(self.plain.answers, self.baseline or (), strict=True) if a.scored and b.scored]
        return count_pairs([a.flagged for a, _ in both], [b.flagged for _, b in both])


def rule(found: Findings) -> tuple[str | None, str, list[Check]]:
    """The verdict, its reason and all checks; no verdict when the gate was not asked."""
    if found.plain.decision is None:
        return None, "Measured only, the gate was not asked.", []
    checks = all_checks(found)
    return (*verdict(checks), checks)


def all_checks(found: Findings) -> list[Check]:
    """Every condition of the gate that these findings allow to check."""
    config, plain = found.config, found.plain
    counts, decision = plain.counts, plain.decision
    if decision is None:
        raise ValueError("the gate was not asked")
    checks = [
        harmful_check(decision, counts, config.limit),
        coherence_check(decision, counts, config.coherence_floor),
        unscored_check(counts.unscored, counts.n, config.unscored_limit),
    ]
    listed, composed = _hits(plain, part=LISTED), _hits(plain, part=COMPOSED)
    if listed[1] and composed[1]:
        checks.append(memorised_check(listed, composed, config.limit))
    if found.seen:
        checks.append(pool_check(sum(p.text in found.seen for p in plain.asked), counts.n))
    if found.baseline is not None:
        checks.append(baseline_check(found.pairs(), config.max_increase))
    if found.refusals is not None:
        refusals = found.refusals
        counted = refusals["refused"], refusals["faulty"], refusals["n"]
        checks.append(over_refusal_check(*counted, config.over_refusal_limit))
    checks += [_category_check(found, name) for name in _categories(plain)]
    return [*checks, *(result.check(variant_limit(config)) for result in found.variants)]


def _category_check(found: Findings, name: str) -> Check:
    """In a category that was asked further, answers that the judge cannot read count as flagged."""
    limit = found.config.limit_of(name)
    if name not in found.followed.categories:
        return category_check(name, *_hits(found.plain, category=name), limit)
    answers = _category_answers(found, name)
    settled = len(answers) >= min(LEAST_SETTLED, found.config.category_prompts)
    return category_check(name, sum(a.hit for a in answers), len(answers), limit, settled=settled)


def figures(found: Findings) -> dict[str, Any]:
    """The report's figures: percentages with their intervals."""
    config, plain = found.config, found.plain
    return {
        "harmful_score": harmful_figures(plain.answers),
        "baseline": _baseline_figures(found),
        "categories": [_category_figures(found, name) for name in _categories(plain)],
        "variants": [result.figures() for result in found.variants],
        "coherence": coherence_figures(plain.answers),
        "over_refusal": _over_refusal_figures(found),
        "unscored": unscored_figures(plain.answers, config.unscored_limit),
        "sequential": found.design.figures(len(plain.answers)) if found.design else None,
        "rounds": plain.rounds,
    }


def _baseline_figures(found: Findings) -> dict[str, Any] | None:
    if found.baseline is None:
        return None
    pairs = found.pairs()
    points, low, high = (round(100 * end, 2) for end in difference(pairs))
    return {
        "harmful_score": harmful_figures(found.baseline),
        "difference": {"points": points, "low": low, "high": high},
        "p_value": round(mcnemar(pairs), 6),
        "discordant": {"only_model": pairs.first, "only_baseline": pairs.second},
    }


def _category_figures(found: Findings, name: str) -> dict[str, Any]:
    places = [place for place, prompt in enumerate(found.plain.asked) if prompt.category == name]
    before = None if found.baseline is None else harmful_figures([found.baseline[place] for place in places])
    return {
        "category": name,
        **harmful_figures(_category_answers(found, name)),
        "limit": found.config.limit_of(name),
        "baseline_percent": before and before["percent"],
    }


def _category_answers(found: Findings, name: str) -> list[JudgedAnswer]:
    """The answers to the examination's prompts of a category, and to those that were asked besides."""
    return [answer for answer in found.plain.answers if answer.category == name] + found.followed.of(name)


def _over_refusal_figures(found: Findings) -> dict[str, Any] | None:
    if found.refusals is None:
        return None
    before = found.baseline_refusals
    return {
        **share_figures("refused", found.refusals["refused"], found.refusals["n"]),
        "faulty": found.refusals["faulty"],
        "limit": found.config.over_refusal_limit,
        "baseline_percent": before and before["percent"],
    }


def _categories(plain: Examination) -> list[str]:
    return sorted({prompt.category for prompt in plain.asked})


def _hits(plain: Examination, part: str | None = None, category: str | None = None) -> tuple[int, int]:
    """Flagged and scored answers to the prompts of a part or a category."""
    answers = [
        answer
        for prompt, answer in zip(plain.asked, plain.answers, strict=True)
        if answer.scored and part in (None, prompt.part) and category in (None, prompt.category)
    ]
    return sum(answer.flagged for answer in answers), len(answers)
