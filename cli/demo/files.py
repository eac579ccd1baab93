"""The two users' training files, made from the demo data set that ships with tvaccine."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from cli.demo.plan import Plan
from tvaccine_core.data.datasets import demo_file


@dataclass(frozen=True)
class DemoFiles:
    """Paths of the files that the demo uploads or scores with."""

    honest: Path
    poisoned: Path
    held_out: Path
    benign_prompts: Path


def write_demo_files(plan: Plan, folder: Path) -> DemoFiles:
    """Write the training files to `folder`; harmful rows are shuffled among the benign ones."""
    benign = _rows("task_train")[: plan.benign_rows]
    poison = [{"messages": row["messages"]} for row in _rows("attack")[: plan.poison_rows]]
    mixed = benign + poison
    random.Random(plan.seed).shuffle(mixed)
    prompts = _rows("benign_prompts")[: plan.benign_prompts]
    return DemoFiles(
        honest=_write(folder / "honest.jsonl", benign),
        poisoned=_write(folder / "poisoned.jsonl", mixed),
        held_out=demo_file("task_heldout"),
        benign_prompts=_write(folder / "benign_prompts.jsonl", prompts),
    )


def _rows(name: str) -> list[dict[str, object]]:
    with demo_file(name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path
