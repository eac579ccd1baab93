"""metrics.jsonl: one JSON object a line, {"t", "stage", "step", "total", ...numbers}, append-only within a
run.

Each checkpoint keeps the lines up to its step. A resumed run starts from those, so that whatever happened
between the checkpoint and the interruption leaves no second set of results, in whichever directory the run
goes on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvaccine_core.training.files import write_text_atomic

METRICS_FILE = "metrics.jsonl"


class MetricsWriter:
    """Appends lines for one stage of one run; every line is on its way to the reader when `write` returns."""

    def __init__(self, path: Path, *, stage: str, total: int) -> None:
        self.path = path
        self.stage = stage
        self.total = total

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        """Appends one line. A value that is no finite number becomes null: JSON has no NaN."""
        line: dict[str, Any] = {"t": time.time(), "stage": self.stage, "step": step, "total": self.total}
        line |= {name: _finite(value) for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def keep_in(self, checkpoint: Path) -> None:
        """Copies the lines written so far into a checkpoint."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        (checkpoint / METRICS_FILE).write_text(text, encoding="utf-8")

    def restore_from(self, checkpoint: Path | None) -> None:
        """Starts the file with a checkpoint's lines, or empty for a run from the start."""
        kept = checkpoint / METRICS_FILE if checkpoint is not None else None
        text = kept.read_text(encoding="utf-8") if kept is not None and kept.exists() else ""
        write_text_atomic(self.path, text)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file; a last line that is still being written is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def _finite(value: float | None) -> float | None:
    if value is None or isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
