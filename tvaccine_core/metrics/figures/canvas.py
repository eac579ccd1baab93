"""What the pictures of metrics share: size, colours, axes and the file.

Lines are drawn in the colours of Okabe and Ito, surfaces in cividis: both can be told apart without seeing red or
green, and the surfaces also in grey. PNG, 1200 pixels wide, with a title and nothing else in its metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GREY, GRID = "#1A1A1A", "#6B6B6B", "#DDDDDD"
SURFACE = "cividis"
WIDTH, DPI = 8.0, 150
STYLE = {
    # Labels come from callers: a dollar sign in one is no formula.
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
}
MOST_TITLE = 84


@contextmanager
def drawn(path: Path, title: str, height: float = 4.6, panels: int = 1) -> Iterator[Any]:
    """Gives the axes to draw on (a list when there are several panels, side by side) and then writes the file.

    height: inches. Nothing is written when drawing fails.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, panels)
        figure.suptitle(shortened(title), x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=INK)
        yield axes if panels == 1 else list(axes)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=DPI, metadata={"Title": title, "Software": None})


def grid(axes: Any, axis: str = "both") -> None:
    """Thin grid lines behind what is drawn."""
    axes.grid(axis=axis, color=GRID, lw=0.7)
    axes.set_axisbelow(True)


def shortened(text: str, most: int = MOST_TITLE) -> str:
    """`text` in one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."


def line_colour(number: int, of: int) -> Any:
    """The colour of line `number` of `of` that follow each other in time: dark first, bright last."""
    from matplotlib import colormaps

    return colormaps["viridis"](0.08 + 0.82 * (number / (of - 1) if of > 1 else 0.0))
