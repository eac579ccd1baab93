"""Pictures of what happens in the layers over a run: embedding drift, and gradient norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tvaccine_core.metrics.figures.canvas import GREY, LINES, SURFACE, drawn, grid, line_colour, shortened
from tvaccine_core.metrics.layer_curves import LayerCurves

MOST_LINES = 6
UNITS = {
    "norm": "Gradient norm of the harmful loss\nat the attention output",
    "share": "Share of the layers' gradient norms",
}


def draw_drift(curves: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Left the drift over the steps, one line a run; right how it spreads over layers and steps, of the first run.

    curves: run name -> result of `drift_curve`; at most six. Raises ValueError without any.
    """
    if not curves:
        raise ValueError("no drift to draw")
    unit = "squared activation per token"
    with drawn(path, "Harmful embedding drift", panels=2) as (left, right):
        for (name, curve), colour in zip(curves.items(), LINES, strict=False):
            left.plot(
                [p["step"] for p in curve], [p["total"] for p in curve], color=colour, lw=2, marker="o", markersize=4,
                label=shortened(name, 34),
            )  # fmt: skip
        left.set_ylim(bottom=0)
        left.set_xlabel("training step")
        left.set_ylabel(f"Drift, all layers ({unit})")
        grid(left)
        left.legend(loc="upper left")
        name, curve = next(iter(curves.items()))
        table = list(zip(*(point["layers"] for point in curve), strict=True))
        surface = right.imshow(table, aspect="auto", origin="lower", cmap=SURFACE, vmin=0, interpolation="nearest")
        places = _some(range(len(curve)))
        right.set_xticks(places, [str(curve[place]["step"]) for place in places])
        right.set_title(shortened(name, 34), fontsize=10, fontweight="normal")
        right.set_xlabel("training step")
        right.set_ylabel("layer (0 is next to the embeddings)")
        right.figure.colorbar(surface, ax=right, label=f"Drift of a layer\n({unit})")


def draw_gradient_norms(curves: LayerCurves, path: Path, title: str = "Gradient norms of the layers") -> None:
    """One line a probe over the layers (at most six probes, first and last among them); bars: how often drawn."""
    layers = list(range(len(curves.values[0])))
    with drawn(path, title) as axes:
        chosen = _some(range(len(curves.steps)))
        for number, place in enumerate(chosen):
            axes.plot(
                layers, curves.values[place], color=line_colour(number, len(chosen)), lw=1.9, marker="o", markersize=3,
                label=f"step {curves.steps[place]}", zorder=3,
            )  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.set_xlabel("layer (0 is next to the embeddings)")
        axes.set_ylabel(UNITS[curves.unit])
        grid(axes)
        if curves.draws:
            beside = axes.twinx()
            shares = [100 * count / curves.draws for count in curves.drawn]
            beside.bar(layers, shares, color=GREY, alpha=0.28, width=0.7, label="drawn (right axis)", zorder=1)
            beside.set_ylim(0, 100)
            beside.set_ylabel(f"Drawn, share of {curves.draws} draws (%)", color=GREY)
            beside.spines["right"].set_visible(True)
            axes.set_zorder(beside.get_zorder() + 1)
            axes.patch.set_visible(False)
            axes.bar([0], [0], color=GREY, alpha=0.28, label="drawn (right axis)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4)


def _some(places: range, most: int = MOST_LINES) -> list[int]:
    """At most `most` of the places, evenly spread, first and last among them."""
    if len(places) <= most:
        return list(places)
    return [places[round(number * (len(places) - 1) / (most - 1))] for number in range(most)]
