"""Pictures of a safety landscape: the basin along random directions, and a plane."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvaccine_core.metrics.figures.canvas import GREY, INK, LINES, SURFACE, drawn, grid, shortened

ALPHA = "step alpha (times each tensor's norm)"
MARKERS = "osD^vP"


def draw_basin(basins: Mapping[str, Mapping[str, Any]], path: Path, *, score: str = "Attack success rate (%)") -> None:
    """The 1-D landscape of each model: thin lines for the directions, a thick one for their mean.

    basins: model name -> report of `measure_basin`; at most six. The legend gives each model's VISAGE. score: what S
    is, with its unit.
    """
    with drawn(path, "Safety basin: random directions through the weights") as axes:
        for (name, report), colour, marker in zip(basins.items(), LINES, MARKERS, strict=False):
            key = report["config"]["score"]
            alphas = [point["alpha"] for point in report["lines"][0]["points"]]
            scores = [[point[key] for point in line["points"]] for line in report["lines"]]
            for line in scores if len(scores) > 1 else []:
                axes.plot(alphas, line, color=colour, lw=0.8, alpha=0.45)
            mean = [sum(column) / len(column) for column in zip(*scores, strict=True)]
            label = f"{shortened(name, 40)} (VISAGE {report['visage']:.1f})"
            axes.plot(alphas, mean, color=colour, lw=2.2, marker=marker, markersize=4, label=label)
        axes.axvline(0.0, color=GREY, lw=0.8, ls=(0, (2, 2)))
        axes.set_ylim(-3, 103)
        axes.set_xlabel(ALPHA)
        axes.set_ylabel(score)
        grid(axes)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def draw_plane(
    plane: Mapping[str, Any],
    path: Path,
    *,
    score: str = "Attack success rate (%)",
    title: str = "Safety basin: a plane through the weights",
) -> None:
    """The 2-D landscape of one model as a surface with the line S = below; a cross marks the model itself.

    plane: report of `measure_plane`. title: says which model it is.
    """
    alphas, below = plane["alphas"], plane["config"]["below"]
    with drawn(path, title, height=6.4) as axes:
        surface = axes.pcolormesh(alphas, alphas, plane["scores"], cmap=SURFACE, vmin=0, vmax=100, shading="nearest")
        lowest, highest = (edge(value for row in plane["scores"] for value in row) for edge in (min, max))
        if lowest < below <= highest:
            line = axes.contour(alphas, alphas, plane["scores"], levels=[below], colors="white", linewidths=1.6)
            axes.clabel(line, fmt=f"{below:g} %%", fontsize=9)
        axes.plot(0.0, 0.0, marker="+", color="white", markersize=13, mew=3.2)
        axes.plot(0.0, 0.0, marker="+", color=INK, markersize=12, mew=1.6)
        axes.set_aspect("equal")
        names = [axis_name(direction) for direction in plane["directions"]]
        axes.set_xlabel(f"step along {names[0]}")
        axes.set_ylabel(f"step along {names[1]}")
        axes.figure.colorbar(surface, ax=axes, label=score, shrink=0.85)


def axis_name(identity: str) -> str:
    """A direction's identity for a person: `random:3` is "random direction 3"."""
    kind, _, label = identity.partition(":")
    return f"random direction {label}" if kind == "random" else f"the way to {shortened(label, 40)}"
