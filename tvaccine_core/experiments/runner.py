"""Runs a grid to its end: skips what is done, shares the work with other runs, and goes on after a failed cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tvaccine_core.errors import TVaccineError, Unavailable
from tvaccine_core.experiments.cost import release_memory
from tvaccine_core.experiments.grid import Cell, Grid, cells
from tvaccine_core.experiments.laboratory import Laboratory
from tvaccine_core.experiments.plan_file import CELL_FILE, FAILED_FILE, write_plan
from tvaccine_core.experiments.store import Busy, Thing
from tvaccine_core.experiments.version import code_version
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.stop import Stopped, never

Say = Callable[[str], None]
OUT_OF_MEMORY = "The accelerator ran out of memory; lower batch_size or max_length, or set memory_budget_gb."
WAIT = 5.0
"""Seconds between two looks at cells that other runs are at."""


@dataclass
class Outcome:
    """What became of a run. done: cells that are finished now; new: those finished by this run."""

    done: int = 0
    new: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)


def run_grid(
    grid: Grid,
    out: Path,
    *,
    say: Say = lambda _text: None,
    should_stop: Callable[[], bool] = never,
    wait: float = WAIT,
) -> Outcome:
    """Runs every cell that has no result yet; cells that another run is at are waited for.

    A cell that fails (its training diverges, say) leaves failed.json and is tried again by the next run. Raises
    InvalidRequest for a grid whose rows or base do not do, Stopped when asked to stop.
    """
    laboratory = Laboratory(grid, out, should_stop)
    todo = cells(grid)
    write_plan(out, grid, [(cell, laboratory.folder(cell)) for cell in todo])
    outcome = Outcome()
    left = in_turns(todo)
    while left:
        later = _pass(laboratory, left, len(todo), outcome, say)
        if later and len(later) == len(left):
            if should_stop():
                raise Stopped(outcome.done, None)
            time.sleep(wait)
        left = later
    return outcome


def in_turns(todo: Sequence[Cell]) -> list[Cell]:
    """The first trial of every method of a sweep, then the second ones: cut short, all had as many. Else unchanged."""
    trials: dict[str, dict[str, int]] = {}
    for cell in todo:
        known = trials.setdefault(cell.method.family, {})
        known.setdefault(cell.method.name, len(known))
    return sorted(todo, key=lambda cell: trials[cell.method.family][cell.method.name])


def _pass(laboratory: Laboratory, left: Sequence[Cell], total: int, outcome: Outcome, say: Say) -> list[Cell]:
    """Tries every cell once; returns those that other runs are at."""
    later = []
    for cell in left:
        if laboratory.should_stop():
            raise Stopped(outcome.done, None)
        if laboratory.store.find(laboratory.folder(cell), CELL_FILE) is not None:
            outcome.done += 1
            continue
        try:
            found = laboratory.obtain(cell)
        except Busy:
            later.append(cell)
            continue
        except (TVaccineError, torch.OutOfMemoryError) as error:
            fault = error if isinstance(error, TVaccineError) else Unavailable(OUT_OF_MEMORY)
            _note_failure(laboratory.folder(cell), cell, fault, outcome)
            say(f"failed: {cell.title}: {fault.message}")
        else:
            outcome.done += 1
            outcome.new += 1
            (found.folder / FAILED_FILE).unlink(missing_ok=True)
            say(f"[{outcome.done} of {total}] {cell.title}: {in_words(found)}")
        release_memory()
    return later


def _note_failure(folder: Path, cell: Cell, error: TVaccineError, outcome: Outcome) -> None:
    note = {"coordinates": cell.coordinates, "error": error.to_dict(), "code": code_version()}
    write_json_atomic(folder / FAILED_FILE, note)
    outcome.failed.append(note)


def in_words(cell: Thing) -> str:
    """A finished cell's main figures in one line."""
    results = cell.record["results"]
    (task,) = results["tasks"].values()
    accuracy = f", accuracy {task['percent']} %" if "percent" in task else ""
    before = cell.record["before"]["harmful"]["score"]["percent"]
    return f"harmful score {results['harmful']['score']['percent']} % (before {before} %){accuracy}"
