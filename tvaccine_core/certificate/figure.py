"""The picture of a certificate (PNG, 1200 pixels wide): harmful scores left, the alignment's layers right.

It shows numbers and labels. What fails is hatched, so that the picture also works in grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.certificate.document import Certificate, Layers, Measured, Score
from tvaccine_core.metrics.figures.canvas import GREY, INK, LINES, drawn, grid, shortened

VACCINATED, FAILED = LINES[0], LINES[1]
AS_ATTACKER = "\nin the attacker's words"
LABEL_LENGTH = 28
UNITS = {"norm": "Mean gradient norm", "share": "Share of the gradient norms (%)"}


@dataclass(frozen=True)
class Row:
    """One bar: a score with its interval and limit, percent, beside the stock base's."""

    label: str
    score: Score
    limit: float
    passed: bool
    stock: float | None


def rows_of(certificate: Certificate) -> list[Row]:
    """The bars from top to bottom: clean, and each attack, asked plainly and as the attacker asks."""
    clean_limit = next(check.limit or 0.0 for check in certificate.checks if check.check == "harmful_score")
    rows = _rows("clean", certificate, certificate.clean, certificate.stock, clean_limit)
    for attack in certificate.attacks:
        rows += _rows(attack.label, certificate, attack.vaccinated, attack.stock, attack.limit)
    return rows


def _rows(label: str, certificate: Certificate, after: Measured, stock: Measured | None, limit: float) -> list[Row]:
    asked = [("harmful_score", "", after.harmful_score, stock.harmful_score if stock else None)]
    if after.as_attacker is not None:
        asked.append(("as_attacker", AS_ATTACKER, after.as_attacker, stock.as_attacker if stock else None))
    failed = {(check.check, check.name) for check in certificate.checks if not check.passed}
    shown = shortened(label.replace("_", " "), LABEL_LENGTH)
    return [
        Row(shown + words, score, limit, (check, label) not in failed, None if beside is None else beside.percent)
        for check, words, score, beside in asked
    ]


def draw_certificate(certificate: Certificate, path: Path) -> None:
    """Draws to `path`. Without layers to show there is one panel."""
    rows, layers = rows_of(certificate), certificate.layers
    title = f"Certificate of a vaccine for {certificate.base_name}: {certificate.verdict}"
    height = max(3.6, 1.6 + 0.55 * len(rows))
    with drawn(path, title, height=height, panels=1 if layers is None else 2) as axes:
        _draw_scores(axes if layers is None else axes[0], rows)
        if layers is not None:
            _draw_layers(axes[1], layers)


def _draw_scores(axes: Any, rows: list[Row]) -> None:
    for place, row in enumerate(rows):
        style = {"color": VACCINATED} if row.passed else {"color": FAILED, "hatch": "///", "edgecolor": "white"}
        axes.barh(place, row.score.percent, height=0.42, lw=0, zorder=2, **style)
        ends = [[max(0.0, row.score.percent - row.score.low)], [max(0.0, row.score.high - row.score.percent)]]
        axes.errorbar(row.score.percent, place, xerr=ends, fmt="none", ecolor=INK, capsize=3, lw=1.2, zorder=4)
        if row.stock is not None:
            axes.plot([row.stock], [place], marker="D", color=GREY, ms=6, ls="none", zorder=5)
        axes.plot([row.limit] * 2, [place - 0.32, place + 0.32], color=INK, lw=1.8, ls=(0, (2, 1)), zorder=3)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("Harmful score, 95 % interval (%)")
    grid(axes, "x")
    _explain(axes, rows)


def _explain(axes: Any, rows: list[Row]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Any] = [Patch(color=VACCINATED, label="vaccinated")]
    if not all(row.passed for row in rows):
        entries.append(Patch(facecolor=FAILED, hatch="///", edgecolor="white", label="fails"))
    if any(row.stock is not None for row in rows):
        entries.append(Line2D([], [], color=GREY, marker="D", ls="none", label="stock base"))
    entries.append(Line2D([], [], color=INK, lw=1.8, ls=(0, (2, 1)), label="limit of the upper end"))
    axes.legend(handles=entries, loc="upper center", bbox_to_anchor=(0.35, -0.16), ncols=2)


def _draw_layers(axes: Any, layers: Layers) -> None:
    from matplotlib.ticker import MaxNLocator

    scale = 100.0 if layers.unit == "share" else 1.0
    numbers = [one.layer for one in layers.layers]
    if layers.probes:
        axes.bar(numbers, [scale * (one.mean or 0.0) for one in layers.layers], color=LINES[2], width=0.75, zorder=2)
    axes.set_xlabel("layer (0 is next to the embeddings)")
    axes.set_ylabel(f"{UNITS[layers.unit]},\nmean of {layers.probes} probes (bars)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid(axes, "y")
    beside = axes.twinx()
    beside.plot(numbers, [one.drawn for one in layers.layers], color=INK, marker="D", ms=4.5, ls="none", zorder=3)
    beside.set_ylim(0, max(1, layers.draws) * 1.05)
    beside.yaxis.set_major_locator(MaxNLocator(integer=True))
    beside.set_ylabel(f"Times drawn, of {layers.draws} (points)")
    beside.spines["right"].set_visible(True)
