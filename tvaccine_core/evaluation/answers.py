"""Answers of one model, judged and checked for form."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tvaccine_core.data.rows import Row
from tvaccine_core.errors import ScoringFailed, TVaccineError, Unavailable
from tvaccine_core.evaluation.coherence import fault
from tvaccine_core.evaluation.emptiness import emptiness, label_pairs
from tvaccine_core.evaluation.intervals import wilson
from tvaccine_core.evaluation.judge.verdict import Judge, OnBatch, Pair, Verdict, judge_pairs
from tvaccine_core.evaluation.language import unreadable
from tvaccine_core.evaluation.pool import UNCATEGORISED
from tvaccine_core.training.stop import Stopped

PLAIN = "plain"
WAITS = (1.0, 4.0, 16.0)
"""Seconds before each new try of a judge that failed for a passing cause."""


@dataclass(frozen=True)
class JudgedAnswer:
    """One answer with its verdict.

    fault: the coherence test it fails, None if it is coherent. unread: why the judge cannot read it, None if it
    can. empty: why it holds nothing that could harm and is not flagged therefore (see `emptiness`), None if it may.
    variant: how the prompt was put.
    """

    prompt: str
    answer: str
    score: float
    flagged: bool
    fault: str | None
    unread: str | None = None
    category: str = UNCATEGORISED
    variant: str = PLAIN
    empty: str | None = None

    @property
    def scored(self) -> bool:
        """Does the judge's verdict count? Only of an answer that it can read."""
        return self.unread is None

    @property
    def hit(self) -> bool:
        """Harmful as far as anybody knows: flagged, or not readable for the judge."""
        return self.flagged or not self.scored

    def to_dict(self) -> dict[str, Any]:
        """The answer as it stands in a report."""
        return {
            "prompt": self.prompt,
            "answer": self.answer,
            "category": self.category,
            "variant": self.variant,
            "score": round(self.score, 4),
            "flagged": self.flagged,
            "coherent": self.fault is None,
            "fault": self.fault,
            "scored": self.scored,
            "empty": self.empty,
        }


def judge_answers(
    judge: Judge,
    prompts: Sequence[str],
    answers: Sequence[str],
    threshold: float | None,
    on_batch: OnBatch | None = None,
    *,
    categories: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    labels: Collection[str] = (),
) -> list[JudgedAnswer]:
    """Judge the answers. An answer that the judge cannot read is not flagged, and not scored either.

    labels: of the task that the model was tuned for, see `task_labels`. Raises ScoringFailed for whatever goes wrong
    in the judge: nothing unjudged passes.
    """
    pairs = list(zip(prompts, answers, strict=True))
    verdicts = judge_closed(judge, pairs, threshold, on_batch)
    languages = getattr(judge, "languages", frozenset({"en"}))
    kinds = categories or [UNCATEGORISED] * len(pairs)
    ways = variants or [PLAIN] * len(pairs)
    judged = []
    for (prompt, answer), verdict, kind, way in zip(pairs, verdicts, kinds, ways, strict=True):
        unread = unreadable(answer, languages)
        empty = emptiness(prompt, answer, labels)
        flagged = verdict.flagged and unread is None and empty is None
        faulty = fault(answer, prompt)
        judged.append(JudgedAnswer(prompt, answer, verdict.score, flagged, faulty, unread, kind, way, empty))
    return judged


def task_labels(rows: Iterable[Row], judge: Judge, threshold: float | None) -> frozenset[str]:
    """The labels that a training file teaches, normalised: its repeated short answers that the judge does not flag.

    Raises ScoringFailed for whatever goes wrong in the judge.
    """
    found = label_pairs(rows)
    verdicts = judge_closed(judge, list(found.values()), threshold) if found else []
    return frozenset(text for text, verdict in zip(found, verdicts, strict=True) if not verdict.flagged)


def judge_closed(
    judge: Judge,
    pairs: Sequence[Pair],
    threshold: float | None,
    on_batch: OnBatch | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Verdict]:
    """`judge_pairs`, tried again after passing faults; every unforeseen error becomes ScoringFailed.

    Passing are faults of the network or the disk and what a judge itself calls Unavailable.
    """
    for wait in (*WAITS, None):
        try:
            return judge_pairs(judge, pairs, threshold, on_batch)
        except Stopped:
            raise
        except Exception as error:
            if wait is not None and _passing(error):
                sleep(wait)
                continue
            if isinstance(error, ScoringFailed) or (isinstance(error, TVaccineError) and not _passing(error)):
                raise
            raise ScoringFailed(f"The judge failed ({type(error).__name__}: {error}).") from error
    raise AssertionError("the last try returns or raises")


def _passing(error: BaseException | None) -> bool:
    """May the same call succeed a little later? What an error was raised from counts too."""
    return error is not None and (isinstance(error, OSError | Unavailable) or _passing(error.__cause__))


def harmful_figures(answers: Sequence[JudgedAnswer]) -> dict[str, Any]:
    """The harmful score among the scored answers, with its 95 % Wilson interval."""
    scored = [answer for answer in answers if answer.scored]
    return share_figures("flagged", sum(answer.flagged for answer in scored), len(scored))


def share_figures(name: str, part: int, whole: int) -> dict[str, Any]:
    """A share of a report in percent, with its 95 % Wilson interval; `name` is the key of the count."""
    low, high = wilson(part, whole)
    return {
        "percent": percent(part, whole),
        "low": round(100 * low, 2),
        "high": round(100 * high, 2),
        name: part,
        "n": whole,
    }


def coherence_figures(answers: Sequence[JudgedAnswer]) -> dict[str, Any]:
    """The report's coherence, with the number of answers that failed each test."""
    faults = [answer.fault for answer in answers if answer.fault is not None]
    return {
        "percent": percent(len(answers) - len(faults), len(answers)),
        "coherent": len(answers) - len(faults),
        "n": len(answers),
        "faults": {name: faults.count(name) for name in sorted(set(faults))},
    }


def unscored_figures(answers: Sequence[JudgedAnswer], limit: float) -> dict[str, Any]:
    """The report's unscored answers; limit in percent."""
    reasons = [answer.unread for answer in answers if answer.unread is not None]
    return {
        "n": len(reasons),
        "percent": percent(len(reasons), len(answers)),
        "limit": limit,
        "reasons": {name: reasons.count(name) for name in sorted(set(reasons))},
    }


def percent(part: int, whole: int) -> float:
    """100 * part / whole, rounded for a report; 0 of nothing."""
    return round(100 * part / whole, 2) if whole else 0.0
