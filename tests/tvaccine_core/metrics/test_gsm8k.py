from pathlib import Path

import pytest

from tvaccine_core.data.named import FINAL_ANSWER, local_rows
from tvaccine_core.metrics.gsm8k import final_number, has_marker, is_right


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 + 4 = 7. Final answer: 7", 7.0),
        ("Final answer: 7 of the 12 apples", 7.0),  # the first number after the marker
        ("**Final answer:** $1,234.50 a year (12 months)", 1234.5),
        ("final  ANSWER: 18.", 18.0),  # the full stop is none of it
        ("Final answer: -5", -5.0),
        ("Final answer: \u22125 degrees", -5.0),
        ("Final answer: .5", 0.5),
        ("Final answer: 10,000,000", 1e7),
        ("First 3, then 4, so 12 in all.", 12.0),  # no marker: the last number
        ("10-3", 3.0),  # a difference, not minus three
        ("x=-3", -3.0),
        ("f(2)-3", 3.0),
        ("It costs 12 dollars. Final answer: twelve", 12.0),  # a marker without a number behind it
        ("Final answer: 5. Final answer: 6", 5.0),
        ("no number at all", None),
        ("", None),
    ],
)
def test_the_number_of_a_solution(text: str, number: float | None) -> None:
    assert final_number(text) == number


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("Final answer: 18.0", "18", True),
        ("so it is 1,000", "Final answer: 1000", True),
        ("Final answer: 18", "17", False),
        ("I do not know", "18", False),
        ("I do not know", "neither do I", False),  # no number equals no number? no
    ],
)
def test_two_solutions_agree_when_their_numbers_do(answer: str, gold: str, right: bool) -> None:
    assert is_right(answer, gold) is right


def test_the_marker_is_noticed() -> None:
    assert has_marker("Final answer: 3")
    assert not has_marker("The answer: 3")


def test_every_published_solution_gives_its_own_label(shared_data: Path) -> None:
    import json

    lines = (shared_data / "tasks/gsm8k_eval.jsonl").read_text(encoding="utf-8").splitlines()
    labels = [json.loads(line)["label"] for line in lines]
    rows = local_rows(shared_data / "tasks", "gsm8k", "eval")
    assert len(rows) == len(labels) == 500
    for row, label in zip(rows, labels, strict=True):
        solution = row["messages"][-1]["content"]
        assert solution.count(FINAL_ANSWER) == 1
        assert is_right(solution, label)
