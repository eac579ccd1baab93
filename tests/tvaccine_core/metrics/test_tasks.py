from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.data.named import NEWS_LABELS, SENTIMENTS, local_rows, write_chat_rows
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.accuracy import TaskItem, read_task
from tvaccine_core.metrics.answering import Answerer
from tvaccine_core.metrics.tasks import is_right_answer, measure_accuracy


def items(*golds: str) -> list[TaskItem]:
    return [TaskItem(({"role": "user", "content": f"question {i}"},), gold) for i, gold in enumerate(golds)]


def says(*answers: str) -> Answerer:
    def answer(asked: Sequence[Any], max_new_tokens: int) -> list[str]:
        assert len(asked) == len(answers)
        return list(answers)

    return answer


@pytest.mark.parametrize(
    ("answer", "strict", "published"),
    [
        ("positive", True, True),
        ("Positive.", True, True),
        ("POSITIVE", True, False),  # published: in lower case or capitalised only
        ("positive, very positive", True, True),
        ("It is positive", False, True),
        ("positive or negative", False, True),  # naming all labels is no answer
        ("positively", False, True),
        ("negative", False, False),
        ("", False, False),
    ],
)
def test_sst2(answer: str, strict: bool, published: bool) -> None:
    assert is_right_answer("sst2", answer, "positive") is strict
    assert is_right_answer("sst2", answer, "positive", "published") is published


@pytest.mark.parametrize(
    ("answer", "gold", "strict", "published"),
    [
        ("Sports", "Sports", True, True),
        ("This is about sports.", "Sports", True, False),
        ("The topic is Sports.", "Sports", True, True),
        ("World, Sports, Business, Sci/Tech", "Sports", False, True),
        ("Sportsman", "Sports", False, True),
        ("sci/tech", "Sci/Tech", True, True),
        ("science", "Sci/Tech", False, True),  # published: "sci" anywhere
        ("sciatica", "World", False, False),
        ("Business", "World", False, False),
    ],
)
def test_agnews(answer: str, gold: str, strict: bool, published: bool) -> None:
    assert is_right_answer("agnews", answer, gold) is strict
    assert is_right_answer("agnews", answer, gold, "published") is published


def test_accuracy_is_a_percentage_once() -> None:
    # A published script multiplies the printed percentage by 100 again.
    found = measure_accuracy("agnews", items("World", "Sports", "World", "Business"), says(*["World"] * 4))
    assert (found["percent"], found["correct"], found["n"]) == (50.0, 2, 4)
    assert 0 <= found["low"] < 50 < found["high"] <= 100


def test_gold_answers_score_100_and_all_labels_at_once_score_0() -> None:
    for task, labels in (("sst2", SENTIMENTS), ("agnews", NEWS_LABELS)):
        everything = [" ".join(labels)] * len(labels)
        assert measure_accuracy(task, items(*labels), says(*labels))["percent"] == 100.0
        assert measure_accuracy(task, items(*labels), says(*everything))["percent"] == 0.0
        assert measure_accuracy(task, items(*labels), says(*everything), "published")["percent"] == 100.0


def test_gsm8k_tells_how_many_answers_lack_the_marker() -> None:
    found = measure_accuracy("gsm8k", items("3", "4", "5", "6"), says("so 3", "Final answer: 4", "Final answer: 9", ""))
    assert found["percent"] == 50.0
    assert found["without_marker"]["percent"] == 50.0


@pytest.mark.parametrize(
    ("task", "gold", "rule"), [("chess", "e4", "strict"), ("sst2", "good", "strict"), ("sst2", "positive", "lenient")]
)
def test_what_the_task_does_not_know_is_refused(task: str, gold: str, rule: Any) -> None:
    with pytest.raises(InvalidRequest) as error:
        measure_accuracy(task, items(gold), says("x"), rule)
    assert error.value.param == ("rule" if rule == "lenient" else "task")


@pytest.mark.parametrize("task", ["sst2", "agnews", "gsm8k"])
def test_the_answers_of_public_rows_are_all_right_by_both_rules(shared_data: Path, tmp_path: Path, task: str) -> None:
    write_chat_rows(local_rows(shared_data / "tasks", task, "eval"), tmp_path / "rows.jsonl")
    read = read_task(tmp_path / "rows.jsonl")
    assert len(read) == 500
    for rule in ("strict", "published"):
        assert measure_accuracy(task, read, says(*(item.gold for item in read)), rule)["percent"] == 100.0  # type: ignore[arg-type]
