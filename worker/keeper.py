"""Dispatcher and reaper in one process: ``python -m worker.keeper``.

Two threads, so that a broker or database that is slow to answer the one does not hold up the other. Several
keepers may run at once: each step is guarded by the database.
"""

from __future__ import annotations

import threading

from service.logs import configure_logging
from service.settings import Settings, get_settings
from worker.dispatcher import run_dispatcher
from worker.housekeeping import run_housekeeping
from worker.loop import until_signalled
from worker.reaper import run_reaper

DUTIES = (run_dispatcher, run_reaper, run_housekeeping)


def keep(settings: Settings, stop: threading.Event) -> None:
    """Do all duties until `stop` is set."""
    threads = [threading.Thread(target=duty, args=(settings, stop), name=duty.__name__) for duty in DUTIES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    configure_logging(json=get_settings().log_json)
    keep(get_settings(), until_signalled())
