"""Dispatcher, reaper and housekeeping in one process: ``python -m worker.keeper``.

A thread each, so that a broker or database that is slow to answer one of them does not hold up the others.
Several keepers may run at once: each step is guarded by the database.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence

from service.logs import configure_logging
from service.settings import Settings, get_settings
from worker.dispatcher import run_dispatcher
from worker.housekeeping import run_housekeeping
from worker.loop import until_signalled
from worker.reaper import run_reaper

logger = logging.getLogger(__name__)

Duty = Callable[[Settings, threading.Event], None]
DUTIES: tuple[Duty, ...] = (run_dispatcher, run_reaper, run_housekeeping)


def keep(settings: Settings, stop: threading.Event, duties: Sequence[Duty] = DUTIES) -> bool:
    """Do all duties until `stop` is set. False if one of them gave up: then none goes on without it."""
    failed = threading.Event()

    def do(duty: Duty) -> None:
        try:
            duty(settings, stop)
        except Exception:
            logger.exception("%s gave up", getattr(duty, "__name__", duty))
            failed.set()
        finally:
            stop.set()

    threads = [threading.Thread(target=do, args=(duty,)) for duty in duties]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return not failed.is_set()


if __name__ == "__main__":
    configure_logging(json=get_settings().log_json)
    sys.exit(0 if keep(get_settings(), until_signalled()) else 1)
