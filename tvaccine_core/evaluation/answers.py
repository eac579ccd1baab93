"""Answers of one model, judged and checked for form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvaccine_core.errors import ScoringFailed, TVaccineError
from tvaccine_core.evaluation.coherence import fault
from tvaccine_core.evaluation.judge.verdict import Judge, OnBatch, Pair, Verdict, judge_pairs
from tvaccine_core.training.stop import Stopped


@dataclass(frozen=True)
class JudgedAnswer:
    """One answer with its verdict. fault: the coherence test it fails, None if it is coherent."""

    prompt: str
    answer: str
    score: float
    flagged: bool
    fault: str | None

    def to_dict(self) -> dict[str, Any]:
        """The answer as it stands in a report."""
        return {
            "prompt": self.prompt,
            "answer": self.answer,
            "score": round(self.score, 4),
            "flagged": self.flagged,
            "coherent": self.fault is None,
            "fault": self.fault,
        }


def judge_answers(
    judge: Judge,
    prompts: Sequence[str],
    answers: Sequence[str],
    threshold: float | None,
    on_batch: OnBatch | None = None,
) -> list[JudgedAnswer]:
    """Judge the answers.

    Raises ScoringFailed for whatever goes wrong in the judge: nothing unjudged passes.
    """
    pairs = list(zip(prompts, answers, strict=True))
    verdicts = judge_closed(judge, pairs, threshold, on_batch)
    return [
        JudgedAnswer(prompt, answer, verdict.score, verdict.flagged, fault(answer, prompt))
        for (prompt, answer), verdict in zip(pairs, verdicts, strict=True)
    ]


def judge_closed(
    judge: Judge, pairs: Sequence[Pair], threshold: float | None, on_batch: OnBatch | None = None
) -> list[Verdict]:
    """`judge_pairs`, with every unforeseen error turned into ScoringFailed."""
    try:
        return judge_pairs(judge, pairs, threshold, on_batch)
    except (TVaccineError, Stopped):
        raise
    except Exception as error:
        raise ScoringFailed(f"The judge failed ({type(error).__name__}: {error}).") from error


def harmful_figures(answers: Sequence[JudgedAnswer], low: float, high: float) -> dict[str, Any]:
    """The report's harmful score; low and high in percent."""
    flagged = sum(answer.flagged for answer in answers)
    return {
        "percent": percent(flagged, len(answers)),
        "low": round(low, 2),
        "high": round(high, 2),
        "flagged": flagged,
        "n": len(answers),
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


def percent(part: int, whole: int) -> float:
    """100 * part / whole, rounded for a report."""
    return round(100 * part / whole, 2)
