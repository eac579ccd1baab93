"""How the methods of a grid look in all of its pictures, and what the files are called."""

from __future__ import annotations

import re
from typing import Any

from tvaccine_core.metrics.figures.canvas import LINES

MARKERS = "osD^vPX*"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 2)), (0, (5, 2, 1, 2)))
LINE_HEIGHT = 0.22
"""Inches of picture for a line of the legend."""
_UNFIT = re.compile(r"[^A-Za-z0-9.+=_-]+")


def method_style(place: int) -> dict[str, Any]:
    """How the method at this place of the grid is drawn, in every picture alike."""
    return {
        "color": LINES[place % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
        "ls": DASHES[place // len(LINES) % len(DASHES)],
    }


def height(methods: int) -> float:
    """Inches of a picture whose legend names so many methods in two columns."""
    return 4.6 + LINE_HEIGHT * ((methods + 1) // 2)


def file_name(text: str) -> str:
    """The text as a part of a file's name."""
    return _UNFIT.sub("_", text)[:120]
