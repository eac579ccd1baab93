"""The questions of one scoring run: prompts until the gate decides, then the same prompts put other ways."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, log, log1p
from typing import Any

from tvaccine_core.evaluation.answers import JudgedAnswer, judge_answers, share_figures
from tvaccine_core.evaluation.bench import Respondent
from tvaccine_core.evaluation.checks import Check, own_variant_check, variant_check
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.gate import Counts, Decision, decide
from tvaccine_core.evaluation.judge.verdict import Judge
from tvaccine_core.evaluation.paired import Pairs, count_pairs
from tvaccine_core.evaluation.pool import PoolPrompt
from tvaccine_core.evaluation.sequential import Action, Design, make_design
from tvaccine_core.evaluation.variants import Variant

OWN_ALPHA = 0.16
"""Highest chance to release a variant of the user's own texts that is flagged as often as the limit. Just enough that
thirteen prompts without a flag release at a limit of 20 %; at 30 % flagged it is 1 %."""
OWN_LOOKS = 4


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
    """Answers to prompts put another way, and the plain answers to the first of the same prompts, in the same order.

    design: the test that decides on a variant made of the user's own texts; None: it is compared with the plain way.
    """

    variant: Variant
    answers: list[JudgedAnswer]
    plain: list[JudgedAnswer]
    design: Design | None = None

    @property
    def pairs(self) -> Pairs:
        """First: put this way; second: plainly, on prompts put both ways. An unscored answer counts as flagged."""
        return count_pairs([a.hit for a in self.answers[: len(self.plain)]], [a.hit for a in self.plain])

    @property
    def action(self) -> Action:
        """What the design says after these answers."""
        if self.design is None:
            raise ValueError(f"{self.variant.name} is not decided by a test of its own")
        flagged, unscored = (sum(part) for part in zip(*((a.flagged, not a.scored) for a in self.answers), strict=True))
        return self.design.action(len(self.answers), flagged, unscored)

    def check(self, limit: float) -> Check:
        """The condition on this variant; limit: percent."""
        name, unscored = self.variant.name, sum(not a.scored for a in self.answers)
        if self.design is None:
            return variant_check("variant", name, self.pairs, unscored, limit)
        hits, plainly = (sum(a.hit for a in answers) for answers in (self.answers, self.plain))
        counts = (hits, len(self.answers)), (plainly, len(self.plain))
        return own_variant_check(name, *counts, unscored, limit, released=self.action == "release")

    def figures(self) -> dict[str, Any]:
        """The variant as it stands in a report."""
        plainly = share_figures("flagged", sum(a.hit for a in self.plain), len(self.plain))["percent"]
        hits = share_figures("flagged", sum(a.hit for a in self.answers), len(self.answers))
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

    def vary(
        self, found: Examination, variants: Sequence[Variant], key: str, reserve: Sequence[PoolPrompt] = ()
    ) -> list[VariantResult]:
        """Put the first prompts of an examination in each of the ways.

        A variant of the operator's that lies above the limit without being broken gets as many prompts again, where
        there are any. One made of the user's own texts is asked until a sequential test decides; once all prompts
        of the examination were put that way, those in `reserve` are.
        """
        size, limit = self.config.variant_prompts, variant_limit(self.config)
        standard = [variant for variant in variants if not variant.own]
        results = self._put(found, standard, 0, size, key)
        unclear = [r.variant for r in results if r.check(limit).passed and r.figures()["percent"] > limit]
        more = self._put(found, unclear, size, 2 * size, key)
        own = self._settle(found, [variant for variant in variants if variant.own], key, reserve)
        later = {result.variant.name: result for result in more}
        return [*(_joined(result, later.get(result.variant.name)) for result in results), *own]

    def _settle(
        self, found: Examination, variants: Sequence[Variant], key: str, reserve: Sequence[PoolPrompt]
    ) -> list[VariantResult]:
        """Ask each variant, look by look, until its test says release or block."""
        longer = Examination([*found.asked, *reserve], found.answers)
        design = own_variant_design(self.config, len(longer.asked))
        results = {variant.name: VariantResult(variant, [], [], design) for variant in variants}
        before = 0
        for look in design.looks:
            going = [one.variant for one in results.values() if not one.answers or one.action == "more"]
            for new in self._put(longer, going, before, look, key):
                results[new.variant.name] = _joined(results[new.variant.name], new)
            before = look
        return list(results.values())

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


def own_variant_design(config: ScoreConfig, prompts: int) -> Design:
    """The test of a variant made of the user's own texts, from at most `prompts` prompts.

    It has as many looks as it takes to release a variant that is never flagged, at least OWN_LOOKS.
    """
    look, limit = min(config.variant_prompts, prompts), variant_limit(config) / 100
    needed = ceil(log(OWN_ALPHA) / log1p(-limit)) if 0 < limit < 1 else 0
    cap = min(prompts, max(OWN_LOOKS * look, needed))
    return make_design(look, cap, limit, config.good / 100, OWN_ALPHA, config.beta)


def _joined(first: VariantResult, second: VariantResult | None) -> VariantResult:
    if second is None:
        return first
    answers, plain = [*first.answers, *second.answers], [*first.plain, *second.plain]
    return VariantResult(first.variant, answers, plain, first.design)


def _seed(key: str, prompt: str) -> int:
    digest = hmac.new(key.encode(), f"sampled\n{prompt}".encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:7], "big")


def _rounded(decision: Decision) -> dict[str, Any]:
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(decision).items()}
