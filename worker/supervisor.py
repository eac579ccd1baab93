"""Start a trainer as a child process, watch it, and say how it ended.

The child writes only below its attempt's directory. It is tied to this process (`worker.tether`), runs in a
session of its own (a Ctrl-C in the terminal is ours to pass on, not its to see), and its output goes to a
file.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

logger = logging.getLogger(__name__)

DONE = 0
BAD_DATA = 65  # EX_DATAERR: error.json says what is wrong with the input
STOPPED = 75  # EX_TEMPFAIL: told to stop; a checkpoint was saved

TAIL_BYTES = 16_384
# Kept of a crashed child's output: where it was and the class of the exception. The exception's message and
# all other lines may quote a user's rows.
FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>[\w<>.]+)')
EXCEPTION = re.compile(r"^(?P<name>[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning))(?::|$)")


class Order(Enum):
    """What the watcher wants of the child right now."""

    GO = "go"
    STOP = "stop"  # save a checkpoint and leave
    ABANDON = "abandon"  # the job is someone else's by now: die at once


class Watcher(Protocol):
    """Looked at several times a second while the child runs."""

    def order(self) -> Order:
        """What the child shall do."""

    def look(self) -> None:
        """Read what the child has written so far."""


@dataclass(frozen=True)
class Ending:
    """How a child ended: its exit status (negative: the signal) and the error it reported, if any."""

    status: int
    error: dict[str, Any] | None = None
    trace: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Did the child finish its work?"""
        return self.status == DONE

    def words(self) -> str:
        """One sentence on a child that crashed, free of user text."""
        if self.status < 0:
            how = f"was killed by {signal.Signals(-self.status).name}"
        else:
            how = f"ended with exit status {self.status}"
        where = f" ({' < '.join(reversed(self.trace))})" if self.trace else ""
        return f"the trainer {how}{where}"


def supervise(
    command: Sequence[str],
    *,
    log_file: Path,
    error_file: Path,
    watcher: Watcher,
    grace_seconds: float,
    poll_seconds: float = 0.2,
) -> Ending:
    """Run `command` to its end under `watcher`; never return, or raise, while it is alive.

    grace_seconds: how long the child may take over its checkpoint after SIGTERM before SIGKILL.
    error_file: where the child leaves {code, message, param, details} when it blames its input.
    """
    error_file.unlink(missing_ok=True)
    with log_file.open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no user text
            list(command),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # Threads that wait must sleep: where anything else runs, spinning ones make a step many times slower.
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )
        try:
            status = _watch(child, watcher, grace_seconds, poll_seconds)
        finally:
            _bury(child)
    watcher.look()
    error = _read_error(error_file)
    return Ending(status, error, trace_of(log_file) if status not in (DONE, STOPPED, BAD_DATA) else ())


def trainer_command(spec_file: Path) -> list[str]:
    """The command line of a trainer that does what `spec_file` says."""
    return [sys.executable, "-u", "-m", "worker.trainer", str(spec_file), "--parent", str(os.getpid())]


def _watch(child: subprocess.Popen[bytes], watcher: Watcher, grace_seconds: float, poll_seconds: float) -> int:
    deadline: float | None = None
    while True:
        try:
            return child.wait(timeout=poll_seconds)
        except subprocess.TimeoutExpired:
            pass
        order = watcher.order()
        if order is Order.ABANDON:
            child.kill()
        elif order is Order.STOP and deadline is None:
            child.terminate()
            deadline = time.monotonic() + grace_seconds
        elif deadline is not None and time.monotonic() > deadline:
            logger.warning("trainer %d did not stop within %g s: killed", child.pid, grace_seconds)
            child.kill()
        watcher.look()


def _bury(child: subprocess.Popen[bytes]) -> None:
    """However we come here (also on SystemExit in the middle of anything), leave no child behind."""
    if child.poll() is None:
        child.kill()
    child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _read_error(error_file: Path) -> dict[str, Any] | None:
    try:
        error = json.loads(error_file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return error if isinstance(error, dict) else None


def trace_of(log_file: Path, frames: int = 2) -> tuple[str, ...]:
    """The last traceback in a log as ("module.py:12 in f", ..., "ValueError").

    Places and a class, no messages.
    """
    with log_file.open("rb") as log:
        log.seek(max(0, log_file.stat().st_size - TAIL_BYTES))
        lines = log.read().decode("utf-8", "replace").splitlines()
    places: list[str] = []
    last: tuple[str, ...] = ()
    for line in lines:
        if line.startswith("Traceback (most recent call last)"):
            places = []
        elif frame := FRAME.match(line):
            places.append(f"{Path(frame['file']).name}:{frame['line']} in {frame['function']}")
        elif places and (name := EXCEPTION.match(line)):
            last = (*places[-frames:], name["name"])
    return last
