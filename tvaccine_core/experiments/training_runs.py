"""Training runs that are timed, and gone on with after an interruption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments.cost import measured
from tvaccine_core.metrics.step_cost import WARM_UP, StepCost, step_cost
from tvaccine_core.training.checkpoints import latest_checkpoint
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE, read_metrics

Run = Callable[[Path, Path | None], None]
"""(directory, checkpoint to go on from or None): trains to the end and leaves its files in the directory."""

COST_FILE = "cost.json"
REPORT_FILE = "report.json"


def run_once(folder: Path, run: Run, device: str) -> dict[str, Any]:
    """Trains in `folder` unless that was done, from its last checkpoint if there is one; returns what it cost.

    seconds and peak_memory are those of the last attempt (`resumed`: there was one before it); step_seconds, the
    median of one step, does not depend on that. Checkpoints are deleted at the end. Raises what `run` raises.
    """
    noted = folder / COST_FILE
    if not noted.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        resume = latest_checkpoint(folder / "checkpoints")
        with measured(device) as cost:
            run(folder, resume)
        lines = read_metrics(folder / METRICS_FILE)
        steps = max((int(line["step"]) for line in lines if "loss" in line), default=0)
        per_step = step_time(folder / METRICS_FILE, WARM_UP if steps > 2 * WARM_UP else steps // 4)
        values = {"steps": steps, "step_seconds": per_step and per_step.seconds, "resumed": resume is not None}
        write_json_atomic(noted, {**cost.to_dict(), **values})
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    found: dict[str, Any] = json.loads(noted.read_text(encoding="utf-8"))
    return found


def step_time(metrics: Path, warm_up: int) -> StepCost | None:
    """The time of a step, None of a run too short to tell."""
    try:
        return step_cost(read_metrics(metrics), warm_up)
    except InvalidRequest:
        return None


def report_numbers(folder: Path) -> dict[str, Any]:
    """The numbers of a run's report; its lists stay in the file."""
    report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    return {name: value for name, value in report.items() if isinstance(value, int | float | str | None)}
