"""What the world sees of a running trainer: the job's progress, `metrics` events and checkpoint rows."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.db.repositories.checkpoints import CheckpointRepository
from service.db.repositories.events import EventRepository
from service.domain import job_state
from tvaccine_core.training.checkpoints import checkpoint_step
from worker.attempt import complete_checkpoints
from worker.desk import EVENTS_LOOKED_AT, Desk
from worker.interruptions import LeaseLost
from worker.metrics_tail import MetricsRow, MetricsTail
from worker.supervisor import Order

logger = logging.getLogger(__name__)

WRITE_EVERY_SECONDS = 1.0
EVENTS_A_STAGE = 100
"""About so many metrics events a stage writes at most, however many steps it has."""


class ProgressRecorder:
    """Follows ``metrics.jsonl`` and ``checkpoints/`` of one stage's directory; a `worker.supervisor.Watcher`.

    A step that an earlier attempt has reported and this one runs again is not reported twice.
    """

    def __init__(self, desk: Desk, stage: str, directory: Path) -> None:
        self._desk = desk
        self._stage = stage
        self._directory = directory
        self._tail = MetricsTail(directory / "metrics.jsonl")
        self._rows: list[MetricsRow] = []
        self._by_step: dict[int, MetricsRow] = {}
        self._checkpoints: set[str] = set()
        self._written_at = 0.0
        self._lost = False
        with desk.reading() as session:
            self._reported = last_reported_step(session, desk.order.id, stage)

    def order(self) -> Order:
        """What the desk wants of the trainer; a refused write means that the job is lost."""
        return Order.ABANDON if self._lost else self._desk.wanted()

    def look(self) -> None:
        """Read on, and write what is new, at most about once a second."""
        self._read()
        if time.monotonic() - self._written_at >= WRITE_EVERY_SECONDS:
            self.write()

    def finish(self) -> None:
        """Write what is left. Raises LeaseLost."""
        self._read()
        self.write()
        if self._lost:
            raise LeaseLost

    def _read(self) -> None:
        rows = self._tail.read()
        self._rows += rows
        self._by_step.update({row["step"]: row for row in rows if isinstance(row.get("step"), int)})

    def write(self) -> None:
        """Write rows read and checkpoints found since the last time, in one fenced transaction.

        A database that does not answer only delays this: rows are kept, and the lease decides over the job.
        """
        fresh = self._fresh_checkpoints()
        if not self._rows and not fresh:
            return
        self._written_at = time.monotonic()
        reported = self._reported
        try:
            with self._desk.fenced() as session:
                self._write_rows(session)
                for path in reversed(fresh):
                    self._write_checkpoint(session, path)
        except SQLAlchemyError:
            self._reported = reported
            logger.exception("progress of %s could not be written", self._desk.order.id)
            return
        except LeaseLost:
            self._lost = True
            return
        self._checkpoints.update(path.name for path in fresh)
        self._rows.clear()

    def _fresh_checkpoints(self) -> list[Path]:
        """Complete checkpoints not written yet whose step's metrics are known.

        Those taken over from an earlier attempt are there before the metrics of their steps.
        """
        return [
            path
            for path in complete_checkpoints(self._directory)
            if path.name not in self._checkpoints and checkpoint_step(path) in self._by_step
        ]

    def _write_rows(self, session: Session) -> None:
        events = EventRepository(session)
        for row in self._rows:
            if self._due(row):
                data = {"stage": self._stage, **_numbers(row)}
                words = f"Step {row['step']}/{row.get('total', '?')}"
                events.append(self._desk.order.id, "info", words, type="metrics", data=data)
                self._reported = row["step"]
        if self._rows:
            progress = _numbers(self._rows[-1])
            job_state.set_stage(session, self._desk.claim, self._stage, progress)

    def _due(self, row: MetricsRow) -> bool:
        """Is this the row of a step that has its turn and was not told before?"""
        step, total = row.get("step"), row.get("total") or 0
        if not isinstance(step, int) or step <= self._reported:
            return False
        return step == total or step % max(1, total // EVENTS_A_STAGE) == 0

    def _write_checkpoint(self, session: Session, path: Path) -> None:
        step = checkpoint_step(path)
        row = _numbers(self._by_step[step])
        metrics = {name: value for name, value in row.items() if name not in ("t", "total")}
        CheckpointRepository(session).add(self._desk.order.id, step, {"step": step, **metrics})


def last_reported_step(session: Session, job_id: str, stage: str) -> int:
    """The step of the newest metrics event of a stage, 0 if there is none; steps only grow within a stage."""
    for event in EventRepository(session).list(job_id, limit=EVENTS_LOOKED_AT):
        data = event.data or {}
        if event.type == "metrics" and data.get("stage") == stage:
            return int(data.get("step", 0))
    return 0


def _numbers(row: MetricsRow) -> dict[str, Any]:
    """The finite numbers of a row: text has no business in an event, and JSON knows no NaN."""
    return {name: value for name, value in row.items() if isinstance(value, int | float) and math.isfinite(value)}
