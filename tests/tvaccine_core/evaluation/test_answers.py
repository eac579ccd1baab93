from collections.abc import Sequence

import pytest

from tvaccine_core.errors import BaseMismatch, ScoringFailed, Unavailable
from tvaccine_core.evaluation.answers import (
    WAITS,
    coherence_figures,
    harmful_figures,
    judge_answers,
    judge_closed,
    unscored_figures,
)
from tvaccine_core.evaluation.judge.verdict import Assessment, OnBatch, Pair
from tvaccine_core.training.stop import Stopped


class LongIsHarmful:
    """A judge that scores an answer by its length, after raising the errors it was given."""

    name, version, threshold = "length", "1", 0.5
    languages: frozenset[str] | None = frozenset({"en"})

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def assess(self, pairs: Sequence[Pair], on_batch: OnBatch | None = None) -> list[Assessment]:
        if self.errors:
            raise self.errors.pop(0)
        return [Assessment(min(1.0, len(answer) / 20)) for _, answer in pairs]


PROMPTS, ANSWERS = ["How?", "Why?", "When?"], ["No.", "Because it is so and so.", ""]


def test_answers_are_judged_and_checked_for_form() -> None:
    judged = judge_answers(LongIsHarmful(), PROMPTS, ANSWERS, None)
    assert [(a.flagged, a.fault) for a in judged] == [(False, None), (True, None), (False, "empty")]
    assert judged[1].to_dict() == {
        "prompt": "Why?",
        "answer": "Because it is so and so.",
        "category": "uncategorised",
        "variant": "plain",
        "score": 1.0,
        "flagged": True,
        "coherent": True,
        "fault": None,
        "scored": True,
        "empty": None,
    }
    assert harmful_figures(judged) == {"percent": 33.33, "low": 6.15, "high": 79.23, "flagged": 1, "n": 3}
    assert coherence_figures(judged) == {"percent": 66.67, "coherent": 2, "n": 3, "faults": {"empty": 1}}


def test_any_error_of_the_judge_is_a_failed_scoring() -> None:
    with pytest.raises(ScoringFailed, match="MemoryError"):
        judge_answers(LongIsHarmful(MemoryError("full")), PROMPTS, ANSWERS, None)


@pytest.mark.parametrize("error", [BaseMismatch("other base"), Stopped(3, None)])
def test_errors_with_a_meaning_of_their_own_pass(error: Exception) -> None:
    with pytest.raises(type(error)):
        judge_answers(LongIsHarmful(error), PROMPTS, ANSWERS, None)


RUSSIAN = "Сначала найдите его дом."  # noqa: RUF001


def test_what_the_judge_cannot_read_is_neither_flagged_nor_scored() -> None:
    judged = judge_answers(LongIsHarmful(), ["How?", "Why?"], [RUSSIAN, ANSWERS[1]], None, categories=["a", "b"])
    assert [(a.flagged, a.scored, a.hit, a.category) for a in judged] == [
        (False, False, True, "a"),
        (True, True, True, "b"),
    ]
    assert harmful_figures(judged)["n"] == 1
    assert unscored_figures(judged, 5.0) == {"n": 1, "percent": 50.0, "limit": 5.0, "reasons": {"script": 1}}
    polyglot = LongIsHarmful()
    polyglot.languages = None
    assert judge_answers(polyglot, ["How?"], [RUSSIAN], None)[0].flagged


@pytest.mark.parametrize("error", [OSError("reset"), TimeoutError("slow"), Unavailable("busy"), ConnectionError("no")])
def test_a_passing_fault_is_tried_again(error: Exception) -> None:
    slept: list[float] = []
    judge = LongIsHarmful(error, error)
    assert len(judge_closed(judge, [("How?", "No.")], None, sleep=slept.append)) == 1
    assert slept == list(WAITS[:2])


def test_a_fault_that_stays_fails_closed() -> None:
    slept: list[float] = []
    with pytest.raises(ScoringFailed, match="ConnectionError"):
        judge_closed(LongIsHarmful(*[ConnectionError("no")] * 9), [("How?", "No.")], None, sleep=slept.append)
    assert slept == list(WAITS)
    wrapped = ScoringFailed("The moderation server does not answer.")
    wrapped.__cause__ = TimeoutError("slow")
    with pytest.raises(ScoringFailed, match="does not answer"):
        judge_closed(LongIsHarmful(*[wrapped] * 9), [("How?", "No.")], None, sleep=slept.append)
    assert slept == [*WAITS, *WAITS]
    with pytest.raises(ScoringFailed, match="not a number"):
        judge_closed(LongIsHarmful(ScoringFailed("not a number")), [("How?", "No.")], None, sleep=slept.append)
    assert slept == [*WAITS, *WAITS]
