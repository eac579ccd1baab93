"""metrics.jsonl of an alignment run: the numbers of every step, and the lists of a probe or a draw."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

from tvaccine_core.training.metrics import MetricsWriter


class AlignmentMetrics(MetricsWriter):
    """Also takes lists: `p`, one probability a layer, at probes; `selected`, the drawn layers, at draws."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends one line. What is no finite number becomes null: JSON has no NaN."""
        line = {"t": time.time(), "stage": self.stage, "step": step, "total": self.total}
        line |= {name: _plain(value) for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None
