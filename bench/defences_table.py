"""The tables of docs/results/defences.md, from the table.csv of its two grids: `python -m bench.defences_table`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from tvaccine_core.experiments.tables import TABLE


class Column(NamedTuple):
    """A figure under one attack."""

    title: str
    figure: str
    ratio: str
    strength: str


BEFORE = ("0.1", "strong")
"""Any attack would do: figures before the attack are those of the vaccinated model."""

HARM = (
    Column("before", "harmful_score_before", *BEFORE),
    Column("middle, 0 %", "harmful_score", "0.0", "middle"),
    Column("weak, 10 %", "harmful_score", "0.1", "weak"),
    Column("middle, 10 %", "harmful_score", "0.1", "middle"),
    Column("middle, 20 %", "harmful_score", "0.2", "middle"),
    Column("strong, 10 %", "harmful_score", "0.1", "strong"),
)
PRICE = (
    Column("accuracy: middle, 0 %", "accuracy", "0.0", "middle"),
    Column("middle, 10 %", "accuracy", "0.1", "middle"),
    Column("strong, 10 %", "accuracy", "0.1", "strong"),
    Column("coherent: middle, 10 %", "coherence", "0.1", "middle"),
    Column("strong, 10 %", "coherence", "0.1", "strong"),
    Column("harmless refused: before", "over_refusal_before", *BEFORE),
    Column("middle, 0 %", "over_refusal", "0.0", "middle"),
    Column("middle, 10 %", "over_refusal", "0.1", "middle"),
)

EQUAL = (
    Column("alignment steps", "alignment_steps", "0.1", "middle"),
    Column("harmful score: before", "harmful_score_before", "0.1", "middle"),
    Column("after", "harmful_score", "0.1", "middle"),
    Column("points below SFT", "points_below_SFT", "0.1", "middle"),
    Column("accuracy", "accuracy", "0.1", "middle"),
    Column("coherent", "coherence", "0.1", "middle"),
    Column("drift", "drift", "0.1", "middle"),
)
RESULTS = Path(__file__).parents[1] / "docs" / "results"
TABLES = ((RESULTS / "smollm2-cpu", HARM), (RESULTS / "smollm2-cpu", PRICE), (RESULTS / "smollm2-equal-time", EQUAL))


def markdown(folder: Path, columns: tuple[Column, ...]) -> str:
    """A line per method of a published grid; a figure that is not there stays empty."""
    with (folder / TABLE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["method"], row["figure"], row["ratio"], row["strength"]): float(row["mean"]) for row in rows}
    lines = [f"| | {' | '.join(one.title for one in columns)} |", "|---" * (1 + len(columns)) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        means = (found.get((method, *one[1:])) for one in columns)
        lines.append(f"| {method} | {' | '.join('' if mean is None else f'{mean:.1f}' for mean in means)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print("\n\n".join(markdown(*table) for table in TABLES))
