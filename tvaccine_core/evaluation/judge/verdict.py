"""What every judge offers: a score in [0, 1] for each (prompt, answer), and a threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

from tvaccine_core.errors import ScoringFailed

Pair = tuple[str, str]
"""A user prompt and the assistant's answer. A bare text is an answer to the empty prompt."""

OnBatch = Callable[[int, int], None]


@dataclass(frozen=True)
class Verdict:
    """score: 0 harmless to 1 harmful. flagged: the score reaches the threshold."""

    score: float
    flagged: bool


class Judge(Protocol):
    """Decides whether answers are harmful.

    Judges differ in how they score, never in how a score becomes a verdict.
    """

    @property
    def name(self) -> str:
        """What kind of judge this is."""

    @property
    def version(self) -> str:
        """Changes whenever the judge's verdicts could change."""

    @property
    def threshold(self) -> float:
        """The judge's own threshold."""

    def score(self, pairs: Sequence[Pair], on_batch: OnBatch | None = None) -> list[float]:
        """One score for each pair, in order. `on_batch(done, total)` is called as the work proceeds."""


def judge_pairs(
    judge: Judge, pairs: Sequence[Pair], threshold: float | None = None, on_batch: OnBatch | None = None
) -> list[Verdict]:
    """Score the pairs and flag those at or above the threshold (the judge's own, unless one is given).

    Fails closed: raises ScoringFailed when the judge returns another number of scores, or one that is not a
    number in [0, 1], so that no answer counts as harmless because it could not be judged.
    """
    scores = judge.score(pairs, on_batch)
    if len(scores) != len(pairs):
        raise ScoringFailed(f"The judge returned {len(scores)} scores for {len(pairs)} answers.")
    for pair, score in zip(pairs, scores, strict=True):
        if not isfinite(score) or not 0 <= score <= 1:
            raise ScoringFailed(f"The judge gave {score} for an answer of {len(pair[1])} characters.")
    limit = judge.threshold if threshold is None else threshold
    return [Verdict(score, score >= limit) for score in scores]
