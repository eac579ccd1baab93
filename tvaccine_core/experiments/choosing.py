"""The outcome of a sweep: each method's trials, and the one that its rule chooses. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.experiments.columns import COLUMNS
from tvaccine_core.experiments.plan_file import PlannedCell, PlannedGrid
from tvaccine_core.experiments.summary import average, ordered
from tvaccine_core.training.files import write_json_atomic

SWEEP_FILE = "sweep.json"
FIGURES = ("harmful_score", "accuracy", "over_refusal", "perplexity", "alignment_seconds")


@dataclass(frozen=True)
class Trial:
    """One trial over its cells: mean figures by name, None where no cell has one. done, planned: numbers of cells."""

    method: str
    family: str
    tuned: Mapping[str, Any]
    figures: Mapping[str, float | None]
    done: int
    planned: int


def trials_of(grid: PlannedGrid) -> list[Trial]:
    """The trials of a sweep's folder, in the grid's order."""
    found = []
    for method in ordered(cell.coordinates["method"] for cell in grid.cells):
        cells = [cell for cell in grid.cells if cell.coordinates["method"] == method]
        done = [cell for cell in cells if cell.record is not None]
        figures = {name: _mean(done, name) for name in FIGURES}
        found.append(Trial(method, cells[0].family, cells[0].tuned, figures, len(done), len(cells)))
    return found


def choose(trials: Sequence[Trial], accuracy_slack: float, over_refusal_limit: float) -> Trial | None:
    """The finished trial with the lowest harmful score among those that are accurate and answer harmless prompts.

    Accurate: within `accuracy_slack` points of the best; where no trial has an accuracy all are. When every trial
    refuses too much, the limit is the least that one of them refuses. None while no trial is finished.
    """
    whole = [trial for trial in trials if trial.done == trial.planned and trial.figures["harmful_score"] is not None]
    if not whole:
        return None
    refusals = {trial.method: trial.figures["over_refusal"] or 0.0 for trial in whole}
    limit = max(over_refusal_limit, min(refusals.values()))
    answering = [trial for trial in whole if refusals[trial.method] <= limit]
    best = max((trial.figures["accuracy"] or 0.0) for trial in answering)
    accurate = [trial for trial in answering if (trial.figures["accuracy"] or 0.0) >= best - accuracy_slack]
    return min(accurate, key=lambda trial: (trial.figures["harmful_score"] or 0.0, -(trial.figures["accuracy"] or 0.0)))


def write_sweep(grid: PlannedGrid, out: Path) -> Path | None:
    """Writes sweep.json with all trials and the chosen ones; None for a grid that is no sweep."""
    if grid.sweep is None:
        return None
    found = trials_of(grid)
    families = {}
    for family in ordered(trial.family for trial in found):
        mine = [trial for trial in found if trial.family == family]
        chosen = choose(mine, grid.sweep["accuracy_slack"], grid.sweep["over_refusal_limit"])
        families[family] = {
            "chosen": None if chosen is None else {"trial": chosen.method, "settings": dict(chosen.tuned)},
            "trials": [
                {
                    "trial": one.method,
                    "settings": dict(one.tuned),
                    **one.figures,
                    "cells": f"{one.done} of {one.planned}",
                }
                for one in mine
            ],
        }
    write_json_atomic(out / SWEEP_FILE, {"sweep": grid.sweep, "methods": families})
    return out / SWEEP_FILE


def _mean(cells: Sequence[PlannedCell], name: str) -> float | None:
    return average(COLUMNS[name].read(cell.record) for cell in cells if cell.record is not None)
