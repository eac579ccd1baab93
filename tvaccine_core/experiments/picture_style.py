"""How the methods of a grid look in all of its pictures, and what the files are called."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from tvaccine_core.experiments.plan_file import PlannedGrid
from tvaccine_core.experiments.summary import ordered
from tvaccine_core.metrics.figures.canvas import LINES

MARKERS = "osD^vPX*"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 2)), (0, (5, 2, 1, 2)))
LINE_HEIGHT = 0.22
"""Inches of picture for a line of the legend."""
_UNFIT = re.compile(r"[^A-Za-z0-9.+=_-]+")


def method_styles(plan: PlannedGrid) -> dict[str, dict[str, Any]]:
    """How each method of the grid is drawn, in every picture alike. Trials of one method share its colour."""
    families: dict[str, list[str]] = defaultdict(list)
    for method, family in ordered((cell.coordinates["method"], cell.family) for cell in plan.cells):
        families[family].append(method)
    return {
        method: method_style(place, trial if len(trials) > 1 else place)
        for place, trials in enumerate(families.values())
        for trial, method in enumerate(trials)
    }


def method_style(place: int, marker: int) -> dict[str, Any]:
    """The colour and the line of this place, and the marker of that one. With all colours used, markers are hollow."""
    colour = LINES[place % len(LINES)]
    return {
        "color": colour,
        "mfc": "white" if place // len(LINES) % 2 else colour,
        "marker": MARKERS[marker % len(MARKERS)],
        "ls": DASHES[place // len(LINES) % len(DASHES)],
    }


def height(methods: int) -> float:
    """Inches of a picture whose legend names so many methods in two columns."""
    return 4.6 + LINE_HEIGHT * ((methods + 1) // 2)


def file_name(text: str) -> str:
    """The text as a part of a file's name."""
    return _UNFIT.sub("_", text)[:120]
