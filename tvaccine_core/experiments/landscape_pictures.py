"""Pictures of the attacked models' safety landscapes: all basins in one, and each model's plane in its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tvaccine_core.experiments.landscape_plan import SCORES
from tvaccine_core.experiments.picture_style import file_name
from tvaccine_core.experiments.summary import Group
from tvaccine_core.metrics.figures.basin import draw_basin, draw_plane
from tvaccine_core.metrics.figures.canvas import LINES

MOST_BASINS = len(LINES)


def draw_landscapes(here: Sequence[Group], out: Path, name: str, where: str) -> list[Path]:
    """Draws what the cells of one seed hold; returns the files.

    here: the groups of one attack, ratio, strength and task. name: its part of a file's name; where: the same in words.
    """
    files = []
    basins = _held(here, "basin")
    if basins:
        shown = dict(list(basins.items())[:MOST_BASINS])
        files.append(out / f"basin-{name}.png")
        draw_basin(shown, files[-1], score=_score(next(iter(shown.values()))))
    for method, plane in _held(here, "plane").items():
        files.append(out / f"plane-{name}-{file_name(method)}.png")
        draw_plane(plane, files[-1], score=_score(plane), title=f"Safety plane of {method}: {where}")
    return files


def _held(here: Sequence[Group], part: str) -> dict[str, Any]:
    """The part of each method's results, of its first seed, where the cell holds it."""
    found = {group.coordinate("method"): (group.cells[0].record or {})["results"].get(part) for group in here}
    return {method: report for method, report in found.items() if report is not None}


def _score(report: dict[str, Any]) -> str:
    """What S is, in words."""
    return SCORES[report["config"]["score"]]
