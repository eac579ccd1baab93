from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tvaccine_core.data.row_forms import judge_row
from tvaccine_core.errors import ScoringFailed
from tvaccine_core.metrics.answering import greedy
from tvaccine_core.metrics.open_answers import Comparison, measure_open_answers, win_rate
from tvaccine_core.metrics.perplexity import answer_perplexity

PROMPTS = ["a?", "b?", "c?", "d?"]
LONG, SHORT = ["a long answer"] * 4, ["short"] * 4


def longer(shown: Sequence[Comparison]) -> list[float]:
    return [0.5 if len(c.first) == len(c.second) else float(len(c.first) > len(c.second)) for c in shown]


def test_a_comparer_that_likes_the_first_place_gives_50() -> None:
    assert win_rate(PROMPTS, LONG, SHORT, lambda shown: [1.0] * len(shown)) == 50.0
    assert win_rate(PROMPTS, LONG, SHORT, lambda shown: [0.0] * len(shown)) == 50.0


def test_winning_and_losing_add_up_to_100() -> None:
    ours = ["a long answer", "short", "equal", "x"]
    theirs = ["short", "a long answer", "equal", "y and z"]
    assert win_rate(PROMPTS, LONG, SHORT, longer) == 100.0
    assert win_rate(PROMPTS, SHORT, LONG, longer) == 0.0
    assert win_rate(PROMPTS, ours, theirs, longer) == 37.5
    assert win_rate(PROMPTS, ours, theirs, longer) + win_rate(PROMPTS, theirs, ours, longer) == 100.0
    assert win_rate([], [], [], longer) == 0.0


def test_every_pair_is_shown_in_both_orders_with_its_prompt() -> None:
    seen: list[Comparison] = []
    win_rate(["a?"], ["ours"], ["theirs"], lambda shown: seen.extend(shown) or [0.5] * len(shown))
    assert seen == [Comparison("a?", "ours", "theirs"), Comparison("a?", "theirs", "ours")]


@pytest.mark.parametrize("found", [[1.0], [1.0] * 7 + [1.5], [float("nan")] * 8])
def test_a_comparer_that_fails_is_not_a_loss(found: list[float]) -> None:
    with pytest.raises(ScoringFailed):
        win_rate(PROMPTS, LONG, SHORT, lambda _shown: found)


def test_rows_give_perplexity_and_coherence_of_the_same_model(tiny_base: Callable[[str], Any]) -> None:
    from tiny_models import chat_rows

    from tvaccine_core.models.base import load_base

    base = load_base(str(tiny_base("llama")), dtype="float32", device="cpu")
    read = [judge_row(line, value)[0] for line, value in enumerate(chat_rows(4), start=1)]
    rows = [row for row in read if row is not None]
    asked: list[Any] = []

    def answer(conversations: Sequence[Any], most: int) -> list[str]:
        asked.extend(conversations)
        return greedy(base.model, base.tokenizer)(conversations, most)

    found = measure_open_answers(base.model, base.tokenizer, rows, answer, max_new_tokens=4)
    assert found["perplexity"] == answer_perplexity(base.model, base.tokenizer, rows).value
    assert found["coherence"]["n"] == 4
    assert [turns[-1]["role"] for turns in asked] == ["user"] * 4  # the held-out answer is not shown
