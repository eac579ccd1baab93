"""Progress on standard error: a line whenever the stage changes, and every few seconds in between."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

QUIET_SECONDS = 10.0


class Progress:
    """Prints `[mm:ss] who: stage step/total`, without flooding a log file."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.who = ""
        self._last: tuple[str, float] = ("", 0.0)

    def begin(self, who: str) -> None:
        """The following lines belong to `who`."""
        self.who, self._last = who, ("", 0.0)

    def show(self, stage: str, state: Mapping[str, Any] | None = None) -> None:
        """Say where things stand, if the stage is new or some time has passed."""
        now = time.monotonic()
        if stage == self._last[0] and now - self._last[1] < QUIET_SECONDS:
            return
        self._last = (stage, now)
        step, total = (state or {}).get("step"), (state or {}).get("total")
        self.say(f"{stage} {step}/{total}" if step is not None and total else stage)

    def say(self, text: str) -> None:
        """One line with the time since the demo began."""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        print(f"[{minutes:02d}:{seconds:02d}] {self.who}: {text}", file=sys.stderr, flush=True)
