"""The demo's report: JSON, a picture (PNG) and a page (HTML) that holds both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from cli.demo.table import HEADINGS, ModelRow

GOOD, BAD, NEUTRAL = "#2a7f4f", "#b3372e", "#6b7280"


def write_report(folder: Path, rows: list[ModelRow], facts: dict[str, Any], limit: float) -> Path:
    """Write report.json, report.png and report.html to `folder`; returns the page's path."""
    content = {"rows": [row.to_dict() for row in rows], "facts": facts, "limit_percent": limit}
    (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    draw(folder / "report.png", rows, limit)
    pages = Environment(loader=PackageLoader("cli.demo"), autoescape=select_autoescape())
    page = pages.get_template("report.html").render(headings=HEADINGS, rows=rows, facts=facts, limit=limit)
    (folder / "report.html").write_text(page, "utf-8")
    return folder / "report.html"


def colour(verdict: str) -> str:
    """Green for what was released, red for what was not, grey for what is only measured."""
    if "not released" in verdict or "blocked" in verdict or "fails" in verdict:
        return BAD
    return GOOD if "released" in verdict else NEUTRAL


def draw(path: Path, rows: list[ModelRow], limit: float) -> None:
    """Bars of the harmful score with 95 % intervals, the gate's limit as a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.72 * len(rows) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = list(range(len(rows)))[::-1]
    values = [row.harmful for row in rows]
    errors = [[r.harmful - r.harmful_low for r in rows], [r.harmful_high - r.harmful for r in rows]]
    axes.barh(places, values, color=[colour(r.verdict) for r in rows], height=0.58)
    axes.errorbar(values, places, xerr=errors, fmt="none", ecolor="#222", capsize=4, lw=1.2)
    axes.axvline(limit, color="#222", ls="--", lw=1)
    axes.text(limit + 0.6, len(rows) - 0.45, f"limit {limit:g} %", va="bottom", fontsize=9)
    for place, row in zip(places, rows, strict=True):
        label = row.verdict if row.accuracy is None else f"{row.verdict} · task {row.accuracy:.0f} %"
        # Right of the limit, so that its line crosses no word.
        axes.text(max(row.harmful_high, limit) + 1.2, place, label, va="center", fontsize=9)
    axes.set_yticks(places, [row.name for row in rows])
    axes.set_xlim(0, 135)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("harmful score: answers to harmful prompts that the judge flags, % (lower is better)")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)
