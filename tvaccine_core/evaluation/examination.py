"""The questions of one scoring run: prompts until the gate decides, then the same prompts put other ways."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tvaccine_core.evaluation.answers import JudgedAnswer, judge_answers, share_figures
from tvaccine_core.evaluation.bench import Respondent
from tvaccine_core.evaluation.checks import Check, variant_check
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.gate import Counts, Decision, decide
from tvaccine_core.evaluation.judge.verdict import Judge
from tvaccine_core.evaluation.paired import Pairs, count_pairs
from tvaccine_core.evaluation.pool import PoolPrompt
from tvaccine_core.evaluation.sequential import Design
from tvaccine_core.evaluation.variants import Variant


@dataclass
class Examination:
    """Prompts asked, their judged answers in the same order, and what each look said. decision: the last one."""

    asked: list[PoolPrompt] = field(default_factory=list)
    answers: list[JudgedAnswer] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    decision: Decision | None = None

    @property
    def counts(self) -> Counts:
        """What the gate's rule goes by."""
        return Counts(
            len(self.answers),
            sum(answer.flagged for answer in self.answers),
            sum(not answer.scored for answer in self.answers),
            sum(answer.fault is None for answer in self.answers),
        )


@dataclass(frozen=True)
class VariantResult:
    """Answers to prompts put another way, beside the plain answers to the same prompts, in the same order."""

    variant: Variant
    answers: list[JudgedAnswer]
    plain: list[JudgedAnswer]

    @property
    def pairs(self) -> Pairs:
        """First: put this way; second: plainly. An unscored answer counts as flagged."""
        return count_pairs([a.hit for a in self.answers], [a.hit for a in self.plain])

    def check(self, limit: float) -> Check:
        """The condition on this variant; limit: percent."""
        kind = "trigger" if self.variant.own else "variant"
        return variant_check(kind, self.variant.name, self.pairs, sum(not a.scored for a in self.answers), limit)

    def figures(self) -> dict[str, Any]:
        """The variant as it stands in a report."""
        pairs = self.pairs
        plainly = share_figures("flagged", pairs.both + pairs.second, pairs.n)["percent"]
        hits = share_figures("flagged", pairs.both + pairs.first, pairs.n)
        return {"variant": self.variant.name, **hits, "plain_percent": plainly}


class Examiner:
    """Asks one respondent, and has one judge judge what it says. labels: see `answers.task_labels`."""

    def __init__(self, respondent: Respondent, judge: Judge, config: ScoreConfig, labels: Collection[str] = ()) -> None:
        self.respondent, self.judge, self.config, self.labels = respondent, judge, config, labels

    def examine(self, prompts: Sequence[PoolPrompt], design: Design | None) -> Examination:
        """Ask the prompts in order until the gate decides; all of them at once without a design."""
        found = Examination()
        for look in design.looks if design else (len(prompts),):
            batch = prompts[len(found.asked) : look]
            said = self.respondent.answer([p.text for p in batch], self.config.max_new_tokens, "harmful")
            found.answers += self.judge_said(batch, said)
            found.asked += batch
            if design is None:
                break
            found.decision = decide(design, found.counts, self.config.coherence_floor)
            counts = {"n": len(found.answers), "flagged": found.counts.flagged, "unscored": found.counts.unscored}
            found.rounds.append({**counts, **_rounded(found.decision)})
            if found.decision.action != "more":
                break
        return found

    def judge_said(
        self, prompts: Sequence[PoolPrompt], said: Sequence[str], ways: Sequence[str] | None = None
    ) -> list[JudgedAnswer]:
        """Judge answers to prompts of the pool; `ways` names the variant of each."""
        return judge_answers(
            self.judge,
            [p.text for p in prompts],
            said,
            self.config.judge_threshold,
            lambda _done, _total: self.respondent.check_stop(),
            categories=[p.category for p in prompts],
            variants=ways,
            labels=self.labels,
        )

    def vary(self, found: Examination, variants: Sequence[Variant], key: str) -> list[VariantResult]:
        """Put the first prompts of an examination in each of the ways.

        A variant that lies above the limit without being broken gets as many prompts again, where there are any.
        """
        size, limit = self.config.variant_prompts, variant_limit(self.config)
        results = self._put(found, variants, 0, size, key)
        unclear = [r.variant for r in results if r.check(limit).passed and r.figures()["percent"] > limit]
        more = self._put(found, unclear, size, 2 * size, key)
        later = {result.variant.name: result for result in more}
        return [_joined(result, later.get(result.variant.name)) for result in results]

    def _put(
        self, found: Examination, variants: Sequence[Variant], start: int, stop: int, key: str
    ) -> list[VariantResult]:
        prompts, plain = found.asked[start:stop], found.answers[start:stop]
        if not prompts or not variants:
            return []
        both = [(variant, prompt) for variant in variants for prompt in prompts]
        said = self.respondent.answer(
            [variant.put(prompt.text) for variant, prompt in both],
            self.config.max_new_tokens,
            "variant",
            [_seed(key, prompt.text) if variant.sampled else None for variant, prompt in both],
        )
        judged = self.judge_said([p for _, p in both], said, [v.name for v, _ in both])
        size = len(prompts)
        return [
            VariantResult(variant, judged[place * size : (place + 1) * size], plain)
            for place, variant in enumerate(variants)
        ]


def variant_limit(config: ScoreConfig) -> float:
    """Highest harmful score of a variant, percent."""
    return config.limit if config.variant_limit is None else config.variant_limit


def _joined(first: VariantResult, second: VariantResult | None) -> VariantResult:
    if second is None:
        return first
    return VariantResult(first.variant, [*first.answers, *second.answers], [*first.plain, *second.plain])


def _seed(key: str, prompt: str) -> int:
    digest = hmac.new(key.encode(), f"sampled\n{prompt}".encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:7], "big")


def _rounded(decision: Decision) -> dict[str, Any]:
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(decision).items()}
