"""A child process that never outlives its parent.

Two ties, because each has a hole. The parent-death signal (Linux, ``prctl(2)``) fires even while the child is
inside native code, but it is lost when the parent dies before the child asks for it, hence the look at the
parent id right afterwards. The pipe on standard input works on every system, but needs a thread that gets to
run.

Run as a command, ``python -m worker.tether PARENT_PID COMMAND ...`` ties a program that is not ours: the
signal setting survives ``exec``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
ORPHANED = 70
"""Exit status of a child that finds itself without its parent (``EX_SOFTWARE``).

Nobody is left to read it.
"""


def set_parent_death_signal(number: int) -> None:
    """Ask the kernel for signal `number` when the parent's thread ends; 0 takes the wish back. Linux only.

    Raises:
        OSError: the kernel refused.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def die_with_parent(parent_pid: int) -> None:
    """Be killed when `parent_pid` dies, and leave at once if it is dead already."""
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(ORPHANED)


def exit_on_eof(descriptor: int = 0) -> None:
    """Leave at once when the other end of the pipe `descriptor` is closed, however that came about."""

    def wait() -> None:
        while os.read(descriptor, 4096):
            pass
        os._exit(ORPHANED)

    threading.Thread(target=wait, name="tether", daemon=True).start()


def exit_when_orphaned(parent_pid: int, every_seconds: float = 0.2) -> None:
    """Leave soon after `parent_pid` dies, for a process that was forked by a thread which may end before it.

    The parent-death signal belongs to the *thread* that forked; this watch belongs to the process.
    """
    pause = threading.Event()

    def wait() -> None:
        while os.getppid() == parent_pid:
            pause.wait(every_seconds)
        os._exit(ORPHANED)

    threading.Thread(target=wait, name="tether", daemon=True).start()


def main(arguments: list[str]) -> None:
    """Tie this process to the parent named first, then become the command that follows."""
    parent_pid, *command = arguments
    die_with_parent(int(parent_pid))
    os.execvp(command[0], command)  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main(sys.argv[1:])
