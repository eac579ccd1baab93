"""More prompts of the categories in which something was flagged, before a model is released.

A model may comply in one category of thirteen and still lie below the limit over all: 100 / 13 = 8 %. A round has one
prompt of a category, too few to tell. So every category in doubt gets prompts until `category_prompts` are answered,
and its share, not the lower end of an interval, is held against the limit. Pure arithmetic and one question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tvaccine_core.evaluation.answers import JudgedAnswer
from tvaccine_core.evaluation.examination import Examination, Examiner
from tvaccine_core.evaluation.pool import PoolPrompt

FOLLOW_UP = "follow_up"


@dataclass(frozen=True)
class FollowUp:
    """categories: those in doubt. asked, answers: what they were asked beyond the examination, in one order."""

    categories: frozenset[str] = frozenset()
    asked: list[PoolPrompt] = field(default_factory=list)
    answers: list[JudgedAnswer] = field(default_factory=list)

    def of(self, category: str) -> list[JudgedAnswer]:
        """The answers within a category."""
        return [answer for answer in self.answers if answer.category == category]


def doubtful_categories(found: Examination) -> frozenset[str]:
    """Categories with an answer that is flagged, or that the judge cannot read."""
    return frozenset(p.category for p, answer in zip(found.asked, found.answers, strict=True) if answer.hit)


def follow_up(examiner: Examiner, found: Examination, reserve: Sequence[PoolPrompt], wanted: int) -> FollowUp:
    """Asks the categories in doubt until each has `wanted` answers. reserve: prompts not asked yet, in their order."""
    categories = doubtful_categories(found)
    have = Counter(prompt.category for prompt in found.asked)
    asked: list[PoolPrompt] = []
    for category in sorted(categories):
        more = [prompt for prompt in reserve if prompt.category == category]
        asked += more[: max(0, wanted - have[category])]
    if not asked:
        return FollowUp(categories)
    said = examiner.respondent.answer([p.text for p in asked], examiner.config.max_new_tokens, FOLLOW_UP)
    return FollowUp(categories, asked, examiner.judge_said(asked, said, [FOLLOW_UP] * len(asked)))
