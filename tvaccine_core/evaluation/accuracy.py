"""Accuracy of short task answers, by a strict rule:

naming several labels is not an answer. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvaccine_core.data.rows import Row, read_rows_file, require_valid

WORD = re.compile(r"[^\W_]+(?:[/&'-][^\W_]+)*")
LABEL_WORDS = 3
"""A label has at most this many words; longer answers are free text."""


@dataclass(frozen=True)
class TaskItem:
    """A question, as chat messages, and its gold label."""

    messages: tuple[dict[str, str], ...]
    gold: str


def read_task(path: Path) -> list[TaskItem]:
    """Read training-format rows; the last message, the assistant's, is the gold label.

    Raises InvalidTrainingFile with every fault of a faulty file.
    """
    rows = require_valid(read_rows_file(path, min_rows=1))
    return [_item(row) for row in rows if row.messages[-1].role == "assistant"]


def _item(row: Row) -> TaskItem:
    *asked, answer = row.messages
    return TaskItem(tuple({"role": m.role, "content": m.content} for m in asked), answer.content)


def has_labels(path: Path) -> bool:
    """Are the answers of these rows labels:

    short, and used again and again? Accuracy means nothing otherwise.
    """
    report = read_rows_file(path, min_rows=1)
    if report.faults or not report.rows:
        return False
    golds = [_words(row.messages[-1].content) for row in report.rows if row.messages[-1].role == "assistant"]
    short = all(0 < len(gold) <= LABEL_WORDS for gold in golds)
    return bool(golds) and short and 2 * len(set(map(tuple, golds))) <= len(golds)


def is_correct(answer: str, gold: str, labels: frozenset[str]) -> bool:
    """Does the answer begin with the gold label and name no other label? Case does not count.

    labels: every label of the task. "positive." is right for gold "positive"; "positive or negative" and
    "It is positive" are wrong.
    """
    words, wanted = _words(answer), _words(gold)
    if not wanted or words[: len(wanted)] != wanted:
        return False
    rest = f" {' '.join(words[len(wanted) :])} "
    others = (" ".join(_words(label)) for label in labels if _words(label) != wanted)
    return not any(f" {other} " in rest for other in others if other)


def count_correct(answers: Sequence[str], items: Sequence[TaskItem], labels: frozenset[str]) -> int:
    """Number of right answers. Raises ValueError unless there is one answer for each item."""
    pairs = zip(answers, items, strict=True)
    return sum(is_correct(answer, item.gold, labels) for answer, item in pairs)


def _words(text: str) -> list[str]:
    return [word.casefold() for word in WORD.findall(text)]
