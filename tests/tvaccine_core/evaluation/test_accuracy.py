import json
from pathlib import Path

import pytest

from tvaccine_core.data.datasets import demo_file
from tvaccine_core.errors import InvalidTrainingFile
from tvaccine_core.evaluation.accuracy import count_correct, has_labels, is_correct, read_task

LABELS = frozenset({"positive", "negative", "Sci/Tech", "not spam"})


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("positive", "positive"),
        ("Positive.", "positive"),
        (' "positive"', "positive"),
        ("**positive**", "positive"),
        ("positive, because the author is glad", "positive"),
        ("sci/tech", "Sci/Tech"),
        ("Not spam.", "not spam"),
    ],
)
def test_right_answers(answer: str, gold: str) -> None:
    assert is_correct(answer, gold, LABELS)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("", "positive"),
        ("negative", "positive"),
        ("positive or negative", "positive"),
        ("It is positive", "positive"),
        ("positively", "positive"),
        ("spam", "not spam"),
        ("positive, or maybe not spam", "positive"),
    ],
)
def test_wrong_answers(answer: str, gold: str) -> None:
    assert not is_correct(answer, gold, LABELS)


def test_listing_all_labels_scores_nothing() -> None:
    items = read_task(demo_file("task_heldout"))
    labels = frozenset(item.gold for item in items)
    assert count_correct([item.gold for item in items], items, labels) == len(items) == 60
    assert count_correct([", ".join(sorted(labels))] * len(items), items, labels) == 0
    assert items[0].messages[-1]["role"] == "user"


def test_one_answer_for_each_item() -> None:
    items = read_task(demo_file("task_heldout"))
    with pytest.raises(ValueError, match="argument"):
        count_correct(["billing"], items, frozenset({"billing"}))


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs))
    return path


def test_labels_are_told_from_free_text(tmp_path: Path) -> None:
    assert has_labels(demo_file("task_heldout"))
    assert not has_labels(demo_file("alignment"))
    assert has_labels(write(tmp_path / "a.jsonl", [("q", "yes"), ("r", "no"), ("s", "yes"), ("t", "no")]))
    # short answers that never come twice are facts, not labels
    assert not has_labels(write(tmp_path / "b.jsonl", [("q", "Oslo"), ("r", "Rome"), ("s", "Bern")]))
    (tmp_path / "c.jsonl").write_text("{]\n")
    assert not has_labels(tmp_path / "c.jsonl")


def test_a_faulty_task_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"messages": []}\n')
    with pytest.raises(InvalidTrainingFile):
        read_task(tmp_path / "bad.jsonl")
