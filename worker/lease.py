"""The heartbeat that keeps a claimed job ours, kept by the supervisor and not by the training loop.

A training step may take minutes; a thread of the supervising process renews in between. What it learns (the
lease is lost, the user wants to cancel) it leaves in two events that the supervisor looks at.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pulse:
    """What one renewal told: is the job still ours, and has its user asked to cancel it?"""

    held: bool
    cancel_requested: bool


class Heartbeat:
    """Calls `renew` every `renew_seconds` until left.

    A database that does not answer is no proof of a lost lease, but once `lease_seconds` have passed since
    the last renewal that worked, another worker may have the job: then the lease counts as lost, also while a
    renewal hangs.
    """

    def __init__(self, renew: Callable[[], Pulse], *, renew_seconds: float, lease_seconds: float) -> None:
        self._renew = renew
        self._renew_seconds = renew_seconds
        self._lease_seconds = lease_seconds
        self._renewed_at = time.monotonic()
        self._lost = threading.Event()
        self._cancelled = threading.Event()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    @property
    def lost(self) -> bool:
        """Must this process keep its hands off the job?"""
        return self._lost.is_set() or time.monotonic() - self._renewed_at > self._lease_seconds

    @property
    def cancelled(self) -> bool:
        """Has the user asked to cancel the job?"""
        return self._cancelled.is_set()

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join(timeout=self._lease_seconds)

    def _beat(self) -> None:
        while not self._left.wait(self._renew_seconds):
            asked_at = time.monotonic()
            try:
                pulse = self._renew()
            except Exception:
                logger.exception("the lease could not be renewed")
                continue
            if not pulse.held:
                self._lost.set()
                return
            # Counted from before the question: the database's lease runs at least as long as we believe.
            self._renewed_at = asked_at
            if pulse.cancel_requested:
                self._cancelled.set()
