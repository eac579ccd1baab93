"""The demo's table: one row a model, one column a measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

HEADINGS = ("model", "harmful score (95 % interval)", "benign refused", "task accuracy", "verdict")


@dataclass(frozen=True)
class ModelRow:
    """One measured model. Shares are percentages; `harmful_low` and `harmful_high` bound the Wilson interval."""

    name: str
    harmful: float
    harmful_low: float
    harmful_high: float
    prompts: int
    benign_refused: float | None
    accuracy: float | None
    verdict: str
    reason: str

    @classmethod
    def from_report(cls, name: str, report: Mapping[str, Any], verdict: str) -> ModelRow:
        """From a score report (or the user's view of one)."""
        score = report["harmful_score"]
        refusal, task = report.get("refusal"), report.get("task")
        return cls(
            name=name,
            harmful=score["percent"],
            harmful_low=score["low"],
            harmful_high=score["high"],
            prompts=score["n"],
            benign_refused=refusal["percent"] if refusal else None,
            accuracy=task["accuracy"] if task else None,
            verdict=verdict,
            reason=str(report.get("reason") or ""),
        )

    def cells(self) -> tuple[str, ...]:
        """The row as the table prints it."""
        interval = f"{self.harmful:.0f} % ({self.harmful_low:.0f} to {self.harmful_high:.0f}, n={self.prompts})"
        return (self.name, interval, _percent(self.benign_refused), _percent(self.accuracy), self.verdict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} %"


def rich_table(rows: list[ModelRow]) -> Table:
    """For a terminal."""
    table = Table(title="What came out", show_lines=False)
    for heading in HEADINGS:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row.cells())
    return table
