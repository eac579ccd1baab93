"""All rows and prompts of a grid, kept apart from what is scored, and written once for every run to read.

Nobody may train on what is scored with. Rows that ask a held-out harmful prompt, exactly or nearly, are left out of
everything that is trained on, and how many is noted; attack rows that the defender holds too are left out of the
attack, and test questions of a task out of its training rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.conversations import ChatRow, first_prompt
from tvaccine_core.attacks.harmful_rows import HARMFUL, KNOWN, KnownPrompts
from tvaccine_core.attacks.pools import without_prompts
from tvaccine_core.data.datasets import Prompt
from tvaccine_core.data.overlap import find_overlaps
from tvaccine_core.data.row_forms import Row, judge_row
from tvaccine_core.data.tokenise import encode_rows
from tvaccine_core.errors import InvalidTrainingFile
from tvaccine_core.experiments.evaluation_plan import EvaluationPlan
from tvaccine_core.experiments.grid import Grid
from tvaccine_core.experiments.keys import refuse
from tvaccine_core.experiments.mixed_source import Source
from tvaccine_core.experiments.task_plan import TaskPlan
from tvaccine_core.training.files import write_text_atomic


@dataclass(frozen=True)
class RowFile:
    """Rows in a file of the upload format. sha256: of the file. dropped: how many rows were left out, by reason."""

    path: Path
    rows: tuple[ChatRow, ...]
    sha256: str
    dropped: Mapping[str, int]

    def note(self) -> dict[str, Any]:
        """What a record says of the file."""
        return {"sha256": self.sha256, "rows": len(self.rows), "dropped": dict(self.dropped)}


@dataclass(frozen=True)
class Task:
    """A task's training rows and its test rows."""

    train: RowFile
    test: RowFile


@dataclass(frozen=True)
class Materials:
    """provider, attacker: rows by name. harmful, harmless: prompts that models are scored with."""

    provider: Mapping[str, RowFile]
    attacker: Mapping[str, RowFile]
    tasks: Mapping[str, Task]
    harmful: tuple[Prompt, ...]
    harmless: tuple[Prompt, ...]
    writing: RowFile | None

    def safe(self) -> RowFile | None:
        """The provider's safe rows: its alignment rows unless the grid gives others."""
        return self.provider.get("safe", self.provider.get("alignment"))

    def scored_with(self, task: str, plan: EvaluationPlan) -> dict[str, Any]:
        """What the figures of a task's models rest on, by part, with digests."""
        asked = {"drift_rows": ("alignment", plan.drift), "probe_rows": ("harmful", plan.gradient_norms)}
        return {
            "harmful_prompts": prompts_note(self.harmful),
            "harmless_prompts": prompts_note(self.harmless),
            "task_test": self.tasks[task].test.note(),
            "writing": None if self.writing is None else self.writing.note(),
            **{part: self.provider[name].note() for part, (name, rows) in asked.items() if rows is not None},
        }


def prompts_note(prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Number and digest of prompts, in their order."""
    text = "\n".join(prompt.prompt for prompt in prompts)
    return {"sha256": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", "n": len(prompts)}


class Preparation:
    """Reads the sources of a grid and writes the files under `folder`. tokenizer: of the base, for lengths."""

    def __init__(self, grid: Grid, folder: Path, tokenizer: Any) -> None:
        self._grid = grid
        self._folder = folder
        self._tokenizer = tokenizer

    def materials(self) -> Materials:
        """Everything, or InvalidRequest naming the key of a source that has nothing left."""
        plan = self._grid.evaluation
        harmful = tuple(plan.harmful_prompts.prompts())
        barred = [prompt.prompt for prompt in harmful]
        provider = {
            name: self._kept(f"provider-{name}", source.rows(), source.path, barred)
            for name, source in self._grid.provider.items()
        }
        held = [first_prompt(row) for file in provider.values() for row in file.rows]
        attacker = {name: self._attackers(name, source, barred, held) for name, source in self._grid.attacker.items()}
        writing = plan.writing and self._kept("writing", plan.writing.rows(), plan.writing.path)
        return Materials(
            provider=provider,
            attacker=attacker,
            tasks={task.name: self._task(task, barred) for task in self._grid.tasks},
            harmful=harmful,
            harmless=tuple(plan.harmless_prompts.prompts()) if plan.harmless_prompts else (),
            writing=writing or None,
        )

    def _attackers(self, name: str, source: Source, barred: Sequence[str], held: Sequence[str]) -> RowFile:
        """One of the attacker's pools; its harmful rows are not the defender's."""
        prompts_only = name == KNOWN
        rows = KnownPrompts.known_rows(p.prompt for p in source.prompts()) if prompts_only else source.rows()
        return self._kept(f"attacker-{name}", rows, source.path, barred, held if name == HARMFUL else ())

    def _task(self, task: TaskPlan, barred: Sequence[str]) -> Task:
        test = self._kept(f"{task.name}-test", task.rows("eval"), task.path)
        asked = [first_prompt(row) for row in test.rows]
        train = self._kept(f"{task.name}-train", task.rows("train"), task.path, barred, asked)
        return Task(train, test)

    def _kept(
        self, name: str, rows: Sequence[ChatRow], path: str, barred: Sequence[str] = (), known: Sequence[str] = ()
    ) -> RowFile:
        """The rows that stay, in a file. barred: prompts that none may ask, even nearly; known: nor exactly."""
        apart = without_prompts(rows, known) if known else list(rows)
        unseen = without_near_copies(apart, barred) if barred else apart
        short = self._short(unseen)
        if not short:
            refuse(path, f"all {len(rows)} rows are held out or longer than max_length; give others.")
        dropped = {
            "known_elsewhere": len(rows) - len(apart),
            "held_out": len(apart) - len(unseen),
            "too_long": len(unseen) - len(short),
        }
        return write_row_file(self._folder, name, short, dropped)

    def _short(self, rows: Sequence[ChatRow]) -> list[ChatRow]:
        """The rows that the model can be trained on: not longer than max_length, and taken by its template."""
        try:
            encode_rows(self._tokenizer, as_rows(rows), self._grid.max_length)
        except InvalidTrainingFile as error:
            faulty = {fault["line"] for fault in error.details}
            return [row for line, row in enumerate(rows, start=1) if line not in faulty]
        return list(rows)


def without_near_copies(rows: Sequence[ChatRow], prompts: Sequence[str]) -> list[ChatRow]:
    """The rows whose first question is none of the prompts, nor nearly one (see `find_overlaps`)."""
    found = find_overlaps({"rows": [first_prompt(row) for row in rows], "prompts": list(prompts)})
    lines = {overlap.line if overlap.name == "rows" else overlap.other_line for overlap in found}
    return [row for line, row in enumerate(rows, start=1) if line not in lines]


def as_rows(rows: Iterable[ChatRow]) -> list[Row]:
    """Chat rows as the training code reads them; line i + 1 is the row at place i."""
    judged = (judge_row(line, dict(row))[0] for line, row in enumerate(rows, start=1))
    return [row for row in judged if row is not None]


def as_text(rows: Iterable[ChatRow]) -> str:
    """The rows as a file of the upload format."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_row_file(folder: Path, name: str, rows: Sequence[ChatRow], dropped: Mapping[str, int]) -> RowFile:
    """Writes the rows to a file named after what it holds, unless it is there."""
    text = as_text(rows)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = folder / f"{name.replace(' ', '_')}-{digest[:12]}.jsonl"
    if not path.is_file():
        write_text_atomic(path, text)
    return RowFile(path, tuple(rows), f"sha256:{digest}", dict(dropped))
