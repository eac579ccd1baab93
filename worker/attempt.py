"""The private scratch directory of one attempt at a job, and what it takes over from earlier attempts.

    scratch/<job id>/attempt-<n>/
        <stage>/          orders.json, and what the stage's run leaves: metrics.jsonl, checkpoints/, report.json
        <stage>.json      the trainer's orders       <stage>.log   the trainer's output

An attempt never writes into another one's directory, and copies what it takes over. So a trainer of a lost
attempt, should one still live, cannot disturb the next.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.training.checkpoints import checkpoint_step, is_complete

logger = logging.getLogger(__name__)

Orders = Mapping[str, Any]
ORDERS = "orders.json"
ATTEMPT = re.compile(r"attempt-(\d+)")


@dataclass(frozen=True)
class Inheritance:
    """What an attempt found to build on: the whole stage (`finished`) or a checkpoint to resume from."""

    finished: bool = False
    resume_from: Path | None = None


@dataclass(frozen=True)
class Attempt:
    """Attempt `number` (from 1) at the job whose scratch directory is `job_dir`."""

    job_dir: Path
    number: int

    @property
    def root(self) -> Path:
        """The attempt's own directory."""
        return self.job_dir / f"attempt-{self.number}"

    def stage_dir(self, stage: str) -> Path:
        """Where the run of `stage` leaves its results."""
        return self.root / stage

    def begin(self, stage: str, orders: Orders) -> Inheritance:
        """Make the stage's directory, with what earlier attempts left of a stage with the same `orders`.

        That is the finished stage, or else the newest complete checkpoint. With other orders (the operator has
        changed the gate meanwhile) nothing is taken over.
        """
        own = self.stage_dir(stage)
        own.parent.mkdir(parents=True, exist_ok=True)
        text = self._orders_text(orders)
        earlier = [root.stage_dir(stage) for root in self._earlier() if root._had_orders(stage, text)]
        inheritance = _inherit(earlier, own)
        own.mkdir(exist_ok=True)
        (own / ORDERS).write_text(text, "utf-8")
        return inheritance

    def clear(self) -> None:
        """Remove the scratch directories of the job, once it has come to its end."""
        shutil.rmtree(self.job_dir, ignore_errors=True)

    def _earlier(self) -> list[Attempt]:
        """Earlier attempts at the job, the latest first."""
        numbers = [int(m[1]) for path in self.job_dir.glob("attempt-*") if (m := ATTEMPT.fullmatch(path.name))]
        return [Attempt(self.job_dir, n) for n in sorted(numbers, reverse=True) if n < self.number]

    def _orders_text(self, orders: Orders) -> str:
        """The orders as JSON; paths below the attempt's own directory are written relative to it."""
        return json.dumps(orders, default=str, sort_keys=True).replace(str(self.root), "(attempt)")

    def _had_orders(self, stage: str, text: str) -> bool:
        try:
            return (self.stage_dir(stage) / ORDERS).read_text("utf-8") == text
        except FileNotFoundError:
            return False


def _inherit(earlier: list[Path], own: Path) -> Inheritance:
    for directory in earlier:
        if (directory / "report.json").is_file() and _copy_tree(directory, own, without="checkpoints"):
            return Inheritance(finished=True)
    for checkpoint in _newest_first(earlier):
        target = own / "checkpoints" / checkpoint.name
        if _copy_tree(checkpoint, target):
            return Inheritance(resume_from=target)
    return Inheritance()


def complete_checkpoints(stage_dir: Path) -> list[Path]:
    """The checkpoints below `stage_dir` that were written to their end, the newest first."""
    found = []
    for path in (stage_dir / "checkpoints").glob("checkpoint-*"):
        try:
            step = checkpoint_step(path)
        except ValueError:
            continue
        if is_complete(path):
            found.append((step, path))
    return [path for _, path in sorted(found, reverse=True)]


def _newest_first(stage_dirs: list[Path]) -> Iterator[Path]:
    # The sort is stable: of two checkpoints of the same step the later attempt's comes first.
    found = [path for directory in stage_dirs for path in complete_checkpoints(directory)]
    yield from sorted(found, key=checkpoint_step, reverse=True)


def _copy_tree(source: Path, target: Path, *, without: str | None = None) -> bool:
    """Make `target` a copy of `source` in one rename; False if the source cannot be read to its end.

    Copies, not links: a resumed run may write a checkpoint of the same step anew, and must not thereby damage
    the one it was resumed from.
    """
    half = target.with_name(f".{target.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, half, ignore=shutil.ignore_patterns(without) if without else None)
    except (OSError, shutil.Error):
        logger.warning("%s could not be taken over", source, exc_info=True)
        shutil.rmtree(half, ignore_errors=True)
        return False
    half.rename(target)
    return True
