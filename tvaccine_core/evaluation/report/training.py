"""The training-loss curve of a safety report, from the fine-tuning's metrics.jsonl."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tvaccine_core.training.metrics import read_metrics

MOST_POINTS = 400
"""More cannot be told apart in a picture 1200 pixels wide."""


def training_record(metrics_file: Path, most: int = MOST_POINTS) -> dict[str, Any] | None:
    """`{"loss": [[step, loss], ...]}` with at most `most` points, the last one among them; None without any.

    A loss that was no finite number is left out, and that of a step on the provider's own rows (Lisa). A step that a
    resumed run took again counts once.
    """
    found = {
        int(line["step"]): float(line["loss"])
        for line in read_metrics(metrics_file)
        if isinstance(line.get("step"), int) and _is_finite(line.get("loss")) and not line.get("alignment_state")
    }
    points = [[step, round(loss, 6)] for step, loss in sorted(found.items())]
    if not points:
        return None
    stride = math.ceil(len(points) / most)
    return {"loss": points[::-1][::stride][::-1]}


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
