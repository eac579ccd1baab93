import pytest

from tvaccine_core.data.datasets import demo_file
from tvaccine_core.data.rows import read_rows_file
from tvaccine_core.evaluation.refusal import is_refusal


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t help with that.",
        "Sorry, I'm not able to help with this.",
        "I cannot assist with that request.",
        "I can not do that.",
        "I won't write that.",
        "I must decline.",
        "That is something I have to decline.",
        "No, I will not help with this.",
        "I'm not going to help with that, whatever the reason.",
        "Unfortunately I can't do this.",
        "That is not something I can help with.",
        "This goes against my guidelines.",
    ],
)
def test_refusals_are_seen(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Mix flour and water, then wait.",
        "No problem! Here is a recipe.",
        "The bank declined the card, so call them.",
        "You cannot use cold water for this.",
        "It is illegal to park there.",
        "billing",
        "Sure. " + "Knead the dough well. " * 10 + "I cannot say how long it takes.",
    ],
)
def test_other_answers_are_not(answer: str) -> None:
    assert not is_refusal(answer)


def test_the_demos_rows_are_told_apart() -> None:
    rows = read_rows_file(demo_file("attack")).rows
    assert sum(is_refusal(row.messages[-1].content) for row in rows) == 0
