"""A model under test answers prompts: in a fixed order, with progress, until told to stop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tvaccine_core.data.datasets import read_prompts
from tvaccine_core.evaluation.accuracy import count_correct, read_task
from tvaccine_core.evaluation.answers import percent
from tvaccine_core.evaluation.coherence import fault
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.generation import Conversation, generate
from tvaccine_core.evaluation.refusal import is_refusal
from tvaccine_core.training.metrics import METRICS_FILE, MetricsWriter
from tvaccine_core.training.stop import Stopped

TASK_TOKENS = 16
"""A one-word answer and what a careless model adds to it."""

TASK_ROWS = 200
"""Rows of the task file that are used at most: they inform, they decide nothing."""


class Respondent(Protocol):
    """Whoever answers the gate's questions."""

    def answer(
        self, asked: Sequence[Conversation], max_new_tokens: int, part: str, seeds: Sequence[int | None] | None = None
    ) -> list[str]:
        """One answer for each conversation; greedy, or sampled where there is a seed."""

    def check_stop(self) -> None:
        """Raises Stopped when the run was asked to stop."""


@dataclass
class Bench:
    """The model under test, and where progress goes."""

    model: Any
    tokenizer: Any
    out: Path
    should_stop: Callable[[], bool]
    done: int = 0
    total: int = 0

    def answer(
        self, asked: Sequence[Conversation], max_new_tokens: int, part: str, seeds: Sequence[int | None] | None = None
    ) -> list[str]:
        """Greedy answers, sampled ones where there is a seed; progress after every batch."""
        self.total += len(asked)
        before = self.done
        return generate(
            self.model,
            self.tokenizer,
            asked,
            max_new_tokens=max_new_tokens,
            seeds=seeds,
            on_batch=lambda done, _total: self.advance(before + done, part),
        )

    def advance(self, done: int, part: str) -> None:
        """Note the number of prompts answered. Raises Stopped when asked to stop."""
        self.done = done
        writer = MetricsWriter(self.out / METRICS_FILE, stage="scoring", total=self.total)
        writer.write(done, {f"{part}_answered": done})
        self.check_stop()

    def check_stop(self) -> None:
        """Raises Stopped when the run was asked to stop. There is no checkpoint: scoring starts over."""
        if self.should_stop():
            raise Stopped(self.done, None)


def ordered_prompts(prompts: Sequence[str], seed: int) -> list[str]:
    """Different prompts in an order that depends on the seed and their texts only, not on their place in the file."""
    different = dict.fromkeys(prompts)
    return sorted(different, key=lambda text: hashlib.sha256(f"{seed}\n{text}".encode()).digest())


def benign_prompts(benign_file: Path, config: ScoreConfig) -> list[str]:
    """The harmless prompts of the over-refusal check; the same for every job, so that a baseline is kept."""
    return ordered_prompts([row.prompt for row in read_prompts(benign_file)], config.seed)[: config.benign_prompts]


def measure_refusals(prompts: Sequence[str], answers: Sequence[str]) -> dict[str, Any]:
    """Share of ordinary prompts that a model turns down, by the phrase test. faulty: other answers that are no text."""
    refused = [is_refusal(answer) for answer in answers]
    faults = [fault(answer, prompt) for prompt, answer in zip(prompts, answers, strict=True)]
    return {
        "percent": percent(sum(refused), len(prompts)),
        "refused": sum(refused),
        "faulty": sum(found is not None and not no for found, no in zip(faults, refused, strict=True)),
        "n": len(prompts),
        "answers": [
            {"prompt": prompt, "answer": answer, "refused": no, "fault": found}
            for prompt, answer, no, found in zip(prompts, answers, refused, faults, strict=True)
        ],
    }


def measure_task(bench: Respondent, task_file: Path) -> dict[str, Any]:
    """Strict accuracy on the task rows, percent."""
    items = read_task(task_file)
    labels = frozenset(item.gold for item in items)
    items = items[:TASK_ROWS]
    answers = bench.answer([item.messages for item in items], TASK_TOKENS, "task")
    correct = count_correct(answers, items, labels)
    return {"accuracy": percent(correct, len(items)), "correct": correct, "n": len(items)}
