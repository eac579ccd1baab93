"""The supervisor against real child processes that finish, stop, stall, crash and blame their input."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from worker.supervisor import Ending, Order, supervise, trace_of, trainer_command

PREAMBLE = "import json, os, pathlib, signal, sys, time\nhere = pathlib.Path(sys.argv[1])\n"


class Watch:
    """Gives the order that is due by the clock or by what the child wrote."""

    def __init__(self, directory: Path, orders: Sequence[tuple[str, Order]] = ()) -> None:
        self.directory = directory
        self.orders = dict(orders)
        self.looks = 0

    def order(self) -> Order:
        for name, order in self.orders.items():
            if (self.directory / name).exists():
                return order
        return Order.GO

    def look(self) -> None:
        self.looks += 1


def run(tmp_path: Path, program: str, watcher: Watch | None = None, grace: float = 5) -> Ending:
    return supervise(
        [sys.executable, "-c", PREAMBLE + program, str(tmp_path)],
        log_file=tmp_path / "child.log",
        error_file=tmp_path / "error.json",
        watcher=watcher or Watch(tmp_path),
        grace_seconds=grace,
        poll_seconds=0.05,
    )


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(path: Path, seconds: float = 10) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.02)
    raise AssertionError(f"{path} never came")


def gone(pid: int, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_a_child_that_finishes(tmp_path: Path) -> None:
    watcher = Watch(tmp_path)
    ending = run(tmp_path, "print('hello')", watcher)
    assert ending == Ending(0)
    assert (tmp_path / "child.log").read_text() == "hello\n"
    assert watcher.looks >= 1


def test_stop_lets_the_child_save_and_leave(tmp_path: Path) -> None:
    program = (
        "signal.signal(signal.SIGTERM, lambda *_: (here / 'saved').write_text('x') and os._exit(75))\n"
        "(here / 'ready').write_text('x')\ntime.sleep(60)"
    )
    ending = run(tmp_path, program, Watch(tmp_path, [("ready", Order.STOP)]))
    assert ending == Ending(75)
    assert (tmp_path / "saved").exists()


def test_a_child_that_ignores_stop_is_killed_after_the_grace(tmp_path: Path) -> None:
    program = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(here / 'ready').write_text('x')\ntime.sleep(60)"
    started = time.monotonic()
    ending = run(tmp_path, program, Watch(tmp_path, [("ready", Order.STOP)]), grace=0.5)
    assert ending.status == -signal.SIGKILL
    assert 0.5 < time.monotonic() - started < 10


def test_an_abandoned_child_dies_at_once(tmp_path: Path) -> None:
    program = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(here / 'ready').write_text('x')\ntime.sleep(60)"
    ending = run(tmp_path, program, Watch(tmp_path, [("ready", Order.ABANDON)]), grace=60)
    assert ending.status == -signal.SIGKILL


def test_bad_input_comes_back_as_the_childs_error(tmp_path: Path) -> None:
    error = {"code": "invalid_training_file", "message": "Row 3 is too long.", "param": "training_file"}
    (tmp_path / "error.json").write_text("{}")  # of an earlier run: must not be taken for this one's
    ending = run(tmp_path, f"(here / 'error.json').write_text({json.dumps(error)!r}); sys.exit(65)")
    assert ending == Ending(65, error)
    assert run(tmp_path, "pass").error is None


def test_a_crash_is_told_by_place_and_class_without_the_message(tmp_path: Path) -> None:
    program = "def train():\n    raise ValueError('the user wrote SECRET')\nprint('row SECRET')\ntrain()"
    ending = run(tmp_path, program)
    assert ending.status == 1
    assert ending.trace[-2:] == ("<string>:4 in train", "ValueError")
    assert "ended with exit status 1 (ValueError < " in ending.words()
    assert "SECRET" not in ending.words()


def test_a_signal_is_named(tmp_path: Path) -> None:
    ending = run(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    assert ending.words() == "the trainer was killed by SIGSEGV"


def test_no_child_is_left_when_the_watcher_raises(tmp_path: Path) -> None:
    class Broken(Watch):
        def look(self) -> None:
            if (self.directory / "pid").exists():
                raise SystemExit(1)

    program = "(here / 'pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    with pytest.raises(SystemExit):
        run(tmp_path, program, Broken(tmp_path))
    assert not alive(int((tmp_path / "pid").read_text()))


def test_the_trace_of_the_last_of_several_tracebacks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = 'Traceback (most recent call last):\n  File "a.py", line 1, in one\nKeyError: 1\n'
    log.write_text(first + first.replace("a.py", "b.py").replace("KeyError", "torch.OutOfMemoryError") + "bye\n")
    assert trace_of(log) == ("b.py:1 in one", "torch.OutOfMemoryError")


SUPERVISOR = """
import subprocess, sys, time
from worker.supervisor import trainer_command
command = trainer_command(sys.argv[1])
command[command.index('worker.trainer') - 1:command.index('worker.trainer') + 1] = ['-c', sys.argv[2]]
child = subprocess.Popen(command, stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(60)
"""
TIED = """
import os, sys, time
from worker.tether import die_with_parent, exit_on_eof
{tie}
open(sys.argv[1], 'w').write('tied')
time.sleep(60)
"""


@pytest.mark.parametrize(
    "tie", ["die_with_parent(int(sys.argv[3]))", "exit_on_eof(0)"], ids=["parent-death signal", "pipe"]
)
def test_either_tie_alone_ends_the_child_of_a_killed_supervisor(tmp_path: Path, tie: str) -> None:
    ready = tmp_path / "ready"
    parent = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(ready), TIED.format(tie=tie)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())
    wait_for(ready)
    assert alive(child_pid)
    parent.kill()
    parent.wait()
    assert gone(child_pid)


def test_a_child_whose_parent_died_before_it_looked_leaves(tmp_path: Path) -> None:
    program = "import os\nfrom worker.tether import die_with_parent\ndie_with_parent(os.getppid() + 1)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 70


def test_the_trainers_command_names_this_process() -> None:
    assert trainer_command(Path("spec.json"))[-2:] == ["--parent", str(os.getpid())]
