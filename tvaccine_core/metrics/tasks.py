"""Fine-tune accuracy on SST-2, AG News and GSM8K, by a strict rule and by the one of published scripts.

| task | strict | published |
|---|---|---|
| sst2 | begins with the gold word, names no other label | holds the gold word, in lower case or capitalised |
| agnews | names exactly one label, the gold one | holds the gold label; for Sci/Tech also "sci" |
| gsm8k | final number equals the gold one | the same |

The published rules (scripts of Vaccine, arXiv 2402.01109, and works after it) accept an answer that lists all labels;
they are here to compare with published figures only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tvaccine_core.data.named import NEWS_LABELS, SENTIMENTS
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.accuracy import WORD, TaskItem, is_correct
from tvaccine_core.evaluation.answers import share_figures
from tvaccine_core.metrics.answering import Answerer
from tvaccine_core.metrics.gsm8k import final_number, has_marker, is_right

Rule = Literal["strict", "published"]
TASKS = ("sst2", "agnews", "gsm8k")
NEW_TOKENS = 200
"""Of the published scripts. It cuts some long GSM8K solutions off."""


def is_right_answer(task: str, answer: str, gold: str, rule: Rule = "strict") -> bool:
    """Is the answer right by the task's rule? gold: a label, or for GSM8K a solution or its number."""
    if task == "gsm8k":
        return is_right(answer, gold)
    if rule == "published":
        return _holds(task, answer, gold)
    if task == "sst2":
        return is_correct(answer, gold, frozenset(SENTIMENTS))
    return named_labels(answer, NEWS_LABELS) == {gold}


def named_labels(answer: str, labels: Sequence[str]) -> set[str]:
    """The labels that stand in the answer as whole words; case does not count."""
    words = {word.casefold() for word in WORD.findall(answer)}
    return {label for label in labels if label.casefold() in words}


def measure_accuracy(
    task: str, items: Sequence[TaskItem], answer: Answerer, rule: Rule = "strict", max_new_tokens: int = NEW_TOKENS
) -> dict[str, Any]:
    """Accuracy in percent with its 95 % Wilson interval; for GSM8K also the percentage of answers without the marker.

    items: as `read_task` gives them. Raises InvalidRequest for an unknown task or rule, and for a gold answer that
    the task does not know.
    """
    _check(task, items, rule)
    answers = answer([item.messages for item in items], max_new_tokens)
    right = [is_right_answer(task, one, item.gold, rule) for one, item in zip(answers, items, strict=True)]
    figures = {"task": task, "rule": rule, **share_figures("correct", sum(right), len(right))}
    if task == "gsm8k":
        figures["without_marker"] = share_figures("unmarked", sum(not has_marker(one) for one in answers), len(answers))
    return figures


def _holds(task: str, answer: str, gold: str) -> bool:
    if task == "sst2":
        return gold in answer or gold.capitalize() in answer
    return gold in answer or (gold == NEWS_LABELS[3] and "sci" in answer)


def _check(task: str, items: Sequence[TaskItem], rule: str) -> None:
    if task not in TASKS:
        raise InvalidRequest(f"{task!r} is no task; use one of {', '.join(TASKS)}.", param="task")
    if rule not in ("strict", "published"):
        raise InvalidRequest(f"{rule!r} is no rule; use strict or published.", param="rule")
    labels = SENTIMENTS if task == "sst2" else NEWS_LABELS
    for number, item in enumerate(items, start=1):
        known = final_number(item.gold) is not None if task == "gsm8k" else item.gold in labels
        if not known:
            raise InvalidRequest(
                f"The gold answer of row {number} ({item.gold[:40]!r}) is none of the task {task}; correct the row.",
                param="task",
            )
