"""The word to drain crosses a fork, and SIGQUIT gives it before Celery's own handler runs."""

import os
import signal
import subprocess
import sys

import pytest

from worker import draining


def test_a_forked_child_hears_that_its_worker_drains(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: draining._flag.__setitem__(0, 0))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, b"n" if not draining.draining() else b"y")
        signal.pause()
    assert os.read(reading, 1) == b"n"
    draining.start_draining()
    assert draining.draining()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # Killed in whatever it did, the child cannot have left a lock behind: the flag still works.
    draining.start_draining()
    second = os.fork()
    if second == 0:
        os._exit(0 if draining.draining() else 1)
    assert os.waitpid(second, 0)[1] == 0


def test_sigquit_drains_before_celerys_handler_waits() -> None:
    program = (
        "import os, signal\n"
        "from worker import draining\n"
        "signal.signal(signal.SIGQUIT, lambda *_: print('celery sees', draining.draining()))\n"
        "draining._drain_on_quit()\n"
        "os.kill(os.getpid(), signal.SIGQUIT)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "celery sees True\n"
