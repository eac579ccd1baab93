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
REPAIRING = "repairing"
"""Its steps count from 1 again; the checkpoints that a user sees are those of the fine-tuning."""
EVENTS_A_STAGE = 100
"""About so many metrics events a stage writes at most, however many steps it has."""


class ProgressRecorder:
    """Follows ``metrics.jsonl`` and ``checkpoints/`` of one stage's directory; a `worker.supervisor.Watcher`.

    Several rows of one step (training, validation) become one event, told once the next step has begun. A step
    that an earlier attempt has told and this one runs again is not told twice.
    """

    def __init__(self, desk: Desk, stage: str, directory: Path) -> None:
        self._desk = desk
        self._stage = stage
        self._directory = directory
        self._tail = MetricsTail(directory / "metrics.jsonl")
        self._steps: dict[int, MetricsRow] = {}
        self._newest = 0
        self._shown = 0
        self._checkpoints: set[str] = set()
        self._written_at = 0.0
        self._lost = False
        with desk.reading() as session:
            self._told = last_reported_step(session, desk.order.id, stage)

    def order(self) -> Order:
        """What the desk wants of the trainer; a refused write means that the job is lost."""
        return Order.ABANDON if self._lost else self._desk.wanted()

    def look(self) -> None:
        """Read on, and write what is new, at most about once a second."""
        self._read()
        if time.monotonic() - self._written_at >= WRITE_EVERY_SECONDS:
            self._write(settled_before=self._newest)

    def finish(self) -> None:
        """Write what is left. Raises LeaseLost."""
        self._read()
        self._write(settled_before=self._newest + 1)
        if self._lost:
            raise LeaseLost

    def _read(self) -> None:
        for row in self._tail.read():
            step = row.get("step")
            if isinstance(step, int):
                self._steps.setdefault(step, {}).update(_numbers(row))
                self._newest = step

    def _write(self, settled_before: int) -> None:
        """Write steps and checkpoints of which no more rows will come, in one fenced transaction.

        A database that does not answer only delays this: nothing is forgotten, and the lease decides over the job.
        """
        due = self._due_steps(settled_before)
        checkpoints = self._fresh_checkpoints(settled_before)
        if not due and not checkpoints and self._shown == self._newest:
            return
        self._written_at = time.monotonic()
        try:
            with self._desk.fenced() as session:
                self._write_in(session, due, checkpoints)
        except SQLAlchemyError:
            logger.exception("progress of %s could not be written", self._desk.order.id)
            return
        except LeaseLost:
            self._lost = True
            return
        self._told = max([self._told, *due])
        self._shown = self._newest
        self._checkpoints.update(path.name for path in checkpoints)

    def _write_in(self, session: Session, due: list[int], checkpoints: list[Path]) -> None:
        events, job_id = EventRepository(session), self._desk.order.id
        for step in due:
            row = self._steps[step]
            data = {"stage": self._stage, **row}
            events.append(job_id, "info", f"Step {step}/{row.get('total', '?')}", type="metrics", data=data)
        for path in checkpoints if self._stage != REPAIRING else ():
            step = checkpoint_step(path)
            metrics = {name: value for name, value in self._steps[step].items() if name not in ("t", "total")}
            CheckpointRepository(session).add(job_id, step, metrics)
        if self._newest:
            job_state.set_stage(session, self._desk.claim, self._stage, dict(self._steps[self._newest]))

    def _due_steps(self, settled_before: int) -> list[int]:
        fresh = sorted(step for step in self._steps if self._told < step < settled_before)
        return [step for step in fresh if has_its_turn(step, int(self._steps[step].get("total", 0)))]

    def _fresh_checkpoints(self, settled_before: int) -> list[Path]:
        """Complete checkpoints not written yet whose step's metrics are known, the oldest first.

        Those taken over from an earlier attempt are there before the metrics of their steps.
        """
        return [
            path
            for path in reversed(complete_checkpoints(self._directory))
            if path.name not in self._checkpoints
            and checkpoint_step(path) in self._steps
            and checkpoint_step(path) < settled_before
        ]


def has_its_turn(step: int, total: int) -> bool:
    """Is this one of the about `EVENTS_A_STAGE` steps of a stage that get an event? The last one always is."""
    return step == total or step % max(1, total // EVENTS_A_STAGE) == 0


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
