"""plan.json: which cells a grid consists of and where they lie, so that tables need the folder alone.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments.grid import Cell, Grid
from tvaccine_core.training.files import write_json_atomic

PLAN_FILE = "plan.json"
CELL_FILE = "cell.json"
FAILED_FILE = "failed.json"


@dataclass(frozen=True)
class PlannedCell:
    """A cell of the plan. record: what cell.json says, None while there is none. failure: its error, if it failed."""

    coordinates: dict[str, Any]
    family: str
    tuned: dict[str, Any]
    folder: Path
    record: dict[str, Any] | None
    failure: str | None


@dataclass(frozen=True)
class PlannedGrid:
    """A grid as its folder tells it."""

    title: str
    reference: str
    sweep: dict[str, Any] | None
    cells: tuple[PlannedCell, ...]

    @property
    def finished(self) -> tuple[PlannedCell, ...]:
        """The cells with results."""
        return tuple(cell for cell in self.cells if cell.record is not None)


def vaccine_folder(cell: PlannedCell) -> Path | None:
    """Where a finished cell's vaccine lies, or lay; None without one."""
    vaccine = (cell.record or {}).get("vaccine")
    return None if vaccine is None else cell.folder.parents[1] / "vaccines" / vaccine["folder"]


def write_plan(out: Path, grid: Grid, placed: Sequence[tuple[Cell, Path]]) -> None:
    """Writes the plan of a grid. placed: its cells with their folders, under `out`."""
    cells = [
        {
            "coordinates": cell.coordinates,
            "family": cell.method.family,
            "tuned": dict(cell.method.tuned),
            "folder": str(folder.relative_to(out)),
        }
        for cell, folder in placed
    ]
    sweep = None if grid.sweep is None else dataclasses.asdict(grid.sweep)
    plan = {"title": grid.title, "reference": grid.reference, "sweep": sweep, "grid": dict(grid.values), "cells": cells}
    write_json_atomic(out / PLAN_FILE, plan)


def read_plan(out: Path) -> PlannedGrid:
    """The grid of a folder with what is done of it. Raises InvalidRequest for a folder without a plan."""
    path = out / PLAN_FILE
    if not path.is_file():
        raise InvalidRequest(f"{out} holds no {PLAN_FILE}; give the folder of `tvaccine bench --out`.", param="table")
    plan = json.loads(path.read_text(encoding="utf-8"))
    cells = tuple(_cell(out, values) for values in plan["cells"])
    return PlannedGrid(plan["title"], plan["reference"], plan["sweep"], cells)


def _cell(out: Path, values: dict[str, Any]) -> PlannedCell:
    folder = out / values["folder"]
    record, failure = _json(folder / CELL_FILE), _json(folder / FAILED_FILE)
    return PlannedCell(
        coordinates=values["coordinates"],
        family=values["family"],
        tuned=values["tuned"],
        folder=folder,
        record=record,
        failure=None if failure is None or record is not None else failure["error"]["message"],
    )


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
