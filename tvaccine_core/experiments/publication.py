"""A copy of a grid's results that anybody may read: figures and digests, no prompt, no answer, no weight.

Tables and pictures are drawn from the copy alone, and `tvaccine bench GRID.yaml --out COPY` goes on from it: cells that
are there are not run again. Imports no torch.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tvaccine_core.experiments.plan_file import CELL_FILE, PLAN_FILE, PlannedCell, read_plan, vaccine_folder

VACCINE_REPORT = "report.json"
"""What the curves of the layers are read from."""


def publish(out: Path, to: Path) -> list[Path]:
    """Copies the plan, the finished cells and their vaccines' reports from `out` to `to`; returns the copies.

    What `to` holds already is written over or stays. Raises InvalidRequest for a folder without a plan.
    """
    finished = read_plan(out).finished
    files = [out / PLAN_FILE, *(cell.folder / CELL_FILE for cell in finished), *_reports(finished)]
    return [_copied(file, to / file.relative_to(out)) for file in files]


def _reports(cells: Iterable[PlannedCell]) -> list[Path]:
    folders = dict.fromkeys(folder for cell in cells if (folder := vaccine_folder(cell)) is not None)
    return [folder / VACCINE_REPORT for folder in folders if (folder / VACCINE_REPORT).is_file()]


def _copied(file: Path, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)
    return to
