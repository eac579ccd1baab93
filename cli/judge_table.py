"""A judge's figures as text, beside those of TF-IDF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Figures = Mapping[str, Any]
SOURCE_COLUMNS = {"n": "n", "accuracy": "accuracy", "f1": "F1", "auc": "AUC", "calibration_error": "cal. error"}
"""Figures within a source, and what their columns are called; "cal. error": the expected calibration error."""
COSTS = {
    "false_alarms": "harmless rows flagged",
    "missed": "harmful rows missed",
    "balanced_accuracy": "balanced accuracy",
    "n": "rows",
}
"""What a threshold costs, and what the lines are called."""


def judge_table(
    judge: Figures, tfidf: Figures | None, difference: Figures | None, seconds_per_row: float | None
) -> list[str]:
    """The lines to print: both side by side, their difference, the judge's speed, and figures within each source.

    judge, tfidf: figures as `study.figures` gives them, without any where no row was judged. difference: of the mean
    AUC within a source, with a 95 % bootstrap interval; None: there was nothing to compare.
    """
    shown = {name: column for name, column in (("judge", judge), ("TF-IDF", tfidf)) if column and "sources" in column}
    if not shown:
        return ["No test rows."]
    lines = _side_by_side({name: _flat(column) for name, column in shown.items()})
    if difference is not None:
        interval = f"95 % interval {difference['low']:+.3f} to {difference['high']:+.3f}"
        lines += ["", f"judge minus TF-IDF, mean of the AUCs within a source: {difference['value']:+.3f}, {interval}"]
    if seconds_per_row is not None:
        lines += ["", f"seconds per row, judge: {seconds_per_row:.4f}"]
    for name, column in shown.items():
        lines += ["", *_by_source(name, column)]
    return lines


def calibration_table(found: Figures) -> list[str]:
    """The lines to print of a calibration: the threshold chosen beside the present one, and what each costs.

    found: as `Calibration.to_dict` gives it.
    """
    present = found["figures"]["present"]
    columns = {"chosen": found["figures"]["held_out"], "present": present}
    shown = {name: {words: column[key] for key, words in COSTS.items()} for name, column in columns.items()}
    return [
        f"Judge {found['judge']} {found['version_scored']}",
        f"threshold {found['threshold']:.6g} chosen on {found['rows']} rows; present {present['threshold']:.6g}",
        "",
        *_side_by_side(shown),
        "",
        "chosen: measured on prompts left out while the threshold was chosen",
    ]


def _side_by_side(columns: Mapping[str, Figures]) -> list[str]:
    """One figure a line, one judge a column."""
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    lines = [f"{'':34}" + "".join(f"{name:>10}" for name in columns)]
    return lines + [f"{key:34}" + "".join(_cell(column.get(key), 10) for column in columns.values()) for key in keys]


def _flat(column: Figures) -> dict[str, Any]:
    within = {f"AUC within {name}": value for name, value in column["source_auc"].items() if name != "mean"}
    if "mean" in column["source_auc"]:
        within["mean of the AUCs within a source"] = column["source_auc"]["mean"]
    overall = {name: value for name, value in column["overall"].items() if name != "n"}
    return within | {f"overall {name}": value for name, value in overall.items()}


def _by_source(name: str, column: Figures) -> list[str]:
    """One source a line; the AUC stays empty where a source has rows of one label only."""
    lines = [f"{f'{name}, by source':34}" + "".join(f"{title:>12}" for title in SOURCE_COLUMNS.values())]
    for source, values in column["sources"].items():
        figures = {**values, "auc": column["source_auc"].get(source)}
        lines.append(f"{source:34}" + "".join(_cell(figures.get(key), 12) for key in SOURCE_COLUMNS))
    return lines


def _cell(value: float | None, width: int) -> str:
    """Right-aligned: counts as they are, shares with three digits, nothing for what could not be had."""
    text = "" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
    return f"{text:>{width}}"
