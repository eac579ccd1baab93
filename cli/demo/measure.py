"""Measurements beside the service: the stock base, the vaccine alone, and the attack on the unvaccinated base.

They run as the worker's trainer processes do, so that the command line stays free of torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.demo.progress import Progress
from tvaccine_core.errors import ScoringFailed
from worker.metrics_tail import MetricsTail
from worker.supervisor import Order, supervise, trainer_command


class ProgressWatcher:
    """Shows the child's progress and never stops it."""

    def __init__(self, progress: Progress, metrics: Path) -> None:
        self.progress, self.tail = progress, MetricsTail(metrics)

    def order(self) -> Order:
        """Let it run."""
        return Order.GO

    def look(self) -> None:
        """Show the newest line of the run's metrics."""
        lines = self.tail.read()
        if lines:
            self.progress.show(str(lines[-1].get("stage", "running")), lines[-1])


def run_trainer(progress: Progress, stage: str, out: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run one stage of the core to its end; returns its report.

    Raises:
        ScoringFailed: the run failed; the message names its log.
    """
    out.mkdir(parents=True, exist_ok=True)
    spec, log = out / "spec.json", out / "trainer.log"
    spec.write_text(json.dumps({"stage": stage, "arguments": arguments | {"out": str(out)}}), "utf-8")
    ending = supervise(
        trainer_command(spec),
        log_file=log,
        error_file=out / "error.json",
        watcher=ProgressWatcher(progress, out / "metrics.jsonl"),
        grace_seconds=5,
    )
    if not ending.done:
        raise ScoringFailed(f"{stage} failed: {ending.error or ending.words()}. Its log is {log}.")
    report: dict[str, Any] = json.loads((out / "report.json").read_text("utf-8"))
    return report
