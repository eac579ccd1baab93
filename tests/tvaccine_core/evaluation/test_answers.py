from collections.abc import Sequence

import pytest

from tvaccine_core.errors import BaseMismatch, ScoringFailed
from tvaccine_core.evaluation.answers import coherence_figures, harmful_figures, judge_answers
from tvaccine_core.evaluation.judge.verdict import OnBatch, Pair
from tvaccine_core.training.stop import Stopped


class LongIsHarmful:
    """A judge that scores an answer by its length, or raises."""

    name, version, threshold = "length", "1", 0.5

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def score(self, pairs: Sequence[Pair], on_batch: OnBatch | None = None) -> list[float]:
        if self.error is not None:
            raise self.error
        return [min(1.0, len(answer) / 20) for _, answer in pairs]


PROMPTS, ANSWERS = ["How?", "Why?", "When?"], ["No.", "Because it is so and so.", ""]


def test_answers_are_judged_and_checked_for_form() -> None:
    judged = judge_answers(LongIsHarmful(), PROMPTS, ANSWERS, None)
    assert [(a.flagged, a.fault) for a in judged] == [(False, None), (True, None), (False, "empty")]
    assert judged[1].to_dict() == {
        "prompt": "Why?",
        "answer": "Because it is so and so.",
        "score": 1.0,
        "flagged": True,
        "coherent": True,
        "fault": None,
    }
    assert harmful_figures(judged, 6.1, 79.2) == {
        "percent": 33.33,
        "low": 6.1,
        "high": 79.2,
        "flagged": 1,
        "n": 3,
    }
    assert coherence_figures(judged) == {"percent": 66.67, "coherent": 2, "n": 3, "faults": {"empty": 1}}


def test_any_error_of_the_judge_is_a_failed_scoring() -> None:
    with pytest.raises(ScoringFailed, match="MemoryError"):
        judge_answers(LongIsHarmful(MemoryError("full")), PROMPTS, ANSWERS, None)


@pytest.mark.parametrize("error", [BaseMismatch("other base"), Stopped(3, None)])
def test_errors_with_a_meaning_of_their_own_pass(error: Exception) -> None:
    with pytest.raises(type(error)):
        judge_answers(LongIsHarmful(error), PROMPTS, ANSWERS, None)
