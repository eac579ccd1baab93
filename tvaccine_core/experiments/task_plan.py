"""The tasks of a grid: rows that an honest user trains on, and rows that show whether it worked. Imports no torch.

tasks:
  sst2: {folder: tasks}                       # tasks/sst2_train.jsonl and tasks/sst2_eval.jsonl
  agnews: {name: agnews}                      # the public data set
  tickets: {train: {demo: task_train}, test: {demo: task_heldout}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.conversations import ChatRow, first_prompt
from tvaccine_core.attacks.pools import one_per_question
from tvaccine_core.data.named import Part, task_rows
from tvaccine_core.experiments.keys import label, mapping, refuse, text, under
from tvaccine_core.experiments.mixed_source import Source, source
from tvaccine_core.experiments.row_sources import place_of

KEYS = ("folder", "name", "train", "test")


@dataclass(frozen=True)
class TaskPlan:
    """One task. Its rows come from a folder or by name (both parts), or from a source for each part."""

    path: str
    name: str
    folder: Path | None = None
    public: str | None = None
    train: Source | None = None
    test: Source | None = None

    def rows(self, part: Part) -> list[ChatRow]:
        """The rows of a part, one a question, in the order of their prompts' hashes. Raises InvalidRequest."""
        source = self.train if part == "train" else self.test
        if source is not None:
            return source.rows()
        with under(self.path):
            found = task_rows(self.public or self.name, part, folder=self.folder)
        return sorted(one_per_question(found), key=lambda row: place_of(first_prompt(row)))


def task_plans(values: Any, path: str, folder: Path) -> list[TaskPlan]:
    """The tasks of a grid. Raises InvalidRequest naming the key."""
    given: Mapping[str, Any] = mapping(values, path)
    if not given:
        refuse(path, "needs at least one task; add one.")
    return [_task(label(name, f"{path}.{name}"), value, f"{path}.{name}", folder) for name, value in given.items()]


def _task(name: str, values: Any, path: str, folder: Path) -> TaskPlan:
    given = mapping(values, path, KEYS)
    if set(given) == {"folder"}:
        place = folder / Path(text(given["folder"], f"{path}.folder")).expanduser()
        if not place.is_dir():
            refuse(f"{path}.folder", f"there is no folder {place}; correct the path, or data.folder.")
        return TaskPlan(path, name, folder=place)
    if set(given) == {"name"}:
        return TaskPlan(path, name, public=text(given["name"], f"{path}.name"))
    if set(given) == {"train", "test"}:
        train, test = (source(given[part], f"{path}.{part}", folder) for part in ("train", "test"))
        return TaskPlan(path, name, train=train, test=test)
    refuse(path, "needs `folder`, or `name`, or both `train` and `test`.")
