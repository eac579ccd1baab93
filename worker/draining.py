"""A worker that is told to shut down hands its job back instead of waiting for hours until it is done.

Celery tells its main process; the task runs in a pool child. One byte of shared memory, made before the pool
forks, carries the word across. (A lock would stay held for ever by a child that was killed while holding it.)
"""

from __future__ import annotations

import mmap
import os
import signal
from typing import Any

from celery.signals import worker_process_init, worker_ready, worker_shutting_down

from worker.tether import exit_when_orphaned, set_parent_death_signal

_flag = mmap.mmap(-1, 1)


def start_draining(**_: Any) -> None:
    """Ask the tasks of this worker to stop at the next step and put their jobs back."""
    _flag[0] = 1


def draining() -> bool:
    """Is this worker shutting down?"""
    return _flag[0] == 1


def _drain_on_quit(**_: Any) -> None:
    """Celery sends `worker_shutting_down` on SIGQUIT only after its soft shutdown is over.

    Hear of it before.
    """
    celerys = signal.getsignal(signal.SIGQUIT)

    def handle(number: int, frame: Any) -> None:
        start_draining()
        if callable(celerys):
            celerys(number, frame)

    signal.signal(signal.SIGQUIT, handle)


def _tie_to_main_process(**_: Any) -> None:
    """Celery's own parent-death signal kills a pool child when the *thread* that forked it ends.

    With some transports that is the pool's supervising thread, which ends first in an orderly shutdown, while
    the child still needs time for the checkpoint. So the process is watched instead of the thread.
    """
    set_parent_death_signal(0)
    exit_when_orphaned(os.getppid())


worker_shutting_down.connect(start_draining)
worker_ready.connect(_drain_on_quit)
worker_process_init.connect(_tie_to_main_process)
