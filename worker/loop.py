"""A periodic duty that survives its own failures, and the signal that ends it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 10.0


def repeat(duty: Callable[[], object], *, every_seconds: float, stop: threading.Event) -> None:
    """Do `duty` every so often until `stop` is set.

    After a failure (a database restarts) with longer pauses.
    """
    pause = every_seconds
    while not stop.wait(pause):
        try:
            duty()
            pause = every_seconds
        except Exception:
            pause = min(pause * 2, max(LONGEST_PAUSE, every_seconds))
            logger.exception("failed; trying again in %g s", pause)


def until_signalled() -> threading.Event:
    """An event that SIGTERM and SIGINT set. Call it from the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
