"""The processes that `tvaccine up` starts, keeps running, and takes with it when it goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import worker.tether

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0
"""A child that ran this long starts again with the first pause."""


@dataclass
class Child:
    """One kept process: started again after a crash, each time after a longer pause."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    pause: float = FIRST_PAUSE
    started_at: float = 0.0
    start_after: float = field(default=0.0)

    def start(self) -> None:
        """Start the process, tied to this one: it is killed should we die without a word.

        It gets a session of its own, so that a Ctrl-C in the terminal reaches it through us, in order.
        """
        # Isolated and without site-packages: the tether needs none, and a start takes half the time.
        tether = [sys.executable, "-I", "-S", worker.tether.__file__, str(os.getpid())]
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own modules, no user text
            tether + self.command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # our stdout holds the one result of the command
            env=dict(self.environment),
            start_new_session=True,
        )

    def look(self) -> str | None:
        """Restart the process if it has ended and its pause is over.

        Words for the log if it has just ended.
        """
        now = time.monotonic()
        if self.process is not None:
            status = self.process.poll()
            if status is None:
                return None
            self.process = None
            if now - self.started_at > STEADY_SECONDS:
                self.pause = FIRST_PAUSE
            self.start_after = now + self.pause
            words = f"{self.name} ended (exit status {status}); starting it again in {self.pause:g} s"
            self.pause = min(self.pause * 2, LONGEST_PAUSE)
            return words
        if now >= self.start_after:
            self.start()
        return None


def stop_all(children: list[Child], *, within_seconds: float) -> None:
    """Ask all children to end, and kill those still alive after `within_seconds`."""
    processes = [child.process for child in children if child.process is not None]
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + within_seconds
    for process in processes:
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def keep_running(
    children: list[Child], stopped: Callable[[float], bool], say: Callable[[str], None], every: float = 0.25
) -> None:
    """Look after `children` until `stopped(seconds)`, which waits that long, says true."""
    while not stopped(every):
        for child in children:
            words = child.look()
            if words:
                say(words)
