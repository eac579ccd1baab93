"""Pictures of the layers' gradient norms: over each alignment that noted them, and of all models before the attack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments.picture_style import file_name, height
from tvaccine_core.experiments.plan_file import PlannedCell, PlannedGrid, vaccine_folder
from tvaccine_core.metrics.figures.canvas import drawn, grid, shortened
from tvaccine_core.metrics.figures.layers import UNITS, draw_gradient_norms
from tvaccine_core.metrics.layer_curves import read_layer_curves

NORMS_FILE = "gradient-norms.png"


def draw_layers(plan: PlannedGrid, styles: Mapping[str, Any], out: Path) -> list[Path]:
    """Draws what the finished cells and their vaccines' reports hold; returns the files."""
    models = list(_first_cells(plan))
    return [*_over_alignments(models, out), *_before_attack(models, styles, out)]


def _first_cells(plan: PlannedGrid) -> Iterator[PlannedCell]:
    """One finished cell of each method; of methods that start from one vaccine (or the stock base) the first."""
    methods: set[str] = set()
    starts: set[Path | None] = set()
    for cell in plan.finished:
        start, method = vaccine_folder(cell), cell.coordinates["method"]
        if start not in starts and method not in methods:
            starts.add(start)
            methods.add(method)
            yield cell


def _over_alignments(models: list[PlannedCell], out: Path) -> list[Path]:
    """A picture of each vaccine whose alignment probed its layers."""
    files = []
    for cell in models:
        folder, method = vaccine_folder(cell), cell.coordinates["method"]
        if folder is None:
            continue
        try:
            curves = read_layer_curves(folder)
        except InvalidRequest:  # a method that probes no layers
            continue
        files.append(out / f"layers-{file_name(method)}.png")
        draw_gradient_norms(curves, files[-1], f"Gradient norms of the layers: {method}")
    return files


def _before_attack(models: list[PlannedCell], styles: Mapping[str, Any], out: Path) -> list[Path]:
    """One line a model, whatever its alignment: norms on the same harmful rows, before the attack."""
    noted = {cell.coordinates["method"]: (cell.record or {})["before"].get("gradient_norms") for cell in models}
    norms = {method: found["layers"] for method, found in noted.items() if found is not None}
    if not norms:
        return []
    path = out / NORMS_FILE
    with drawn(path, "Gradient norms of the layers before the attack", height=height(len(norms))) as axes:
        for method, layers in norms.items():
            axes.plot(range(len(layers)), layers, lw=1.8, markersize=4, label=shortened(method, 40), **styles[method])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("layer (0 is next to the embeddings)")
        axes.set_ylabel(UNITS["norm"])
        grid(axes)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return [path]
