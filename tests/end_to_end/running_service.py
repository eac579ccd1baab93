"""The whole service as a user runs it, `tvaccine up`, and a view of its processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import openai

UP = [sys.executable, "-m", "cli.main", "up", "--port", "0"]
Found = TypeVar("Found")


def until(look: Callable[[], Found], seconds: float = 30.0, every: float = 0.05) -> Found:
    """What `look` returns as soon as that is true. Raises AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"waited {seconds:g} s in vain"
        time.sleep(every)


@dataclass
class RunningService:
    """A started service: its own process, data directory, address and first key."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    url: str
    key: str
    log: Path

    def client(self, key: str | None = None) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key)

    def processes(self) -> dict[int, str]:
        return processes_of(self.data_dir)

    def find(self, *words: str) -> list[int]:
        """Pids of the service's processes whose command line holds all words."""
        return sorted(pid for pid, line in self.processes().items() if all(word in line for word in words))

    def trainers(self) -> list[int]:
        return self.find("worker.trainer")

    def pool_child(self) -> int:
        """The process that supervises the trainer: the child of the worker's main process."""
        workers = set(self.find("celery"))
        (child,) = [pid for pid in workers if parent_of(pid) in workers]
        return child

    def worker_main(self) -> int:
        return parent_of(self.pool_child())


def processes_of(data_dir: Path) -> dict[int, str]:
    """Living processes whose environment names this data directory: pid -> command line."""
    mark = f"TVACCINE_DATA_DIR={data_dir}".encode()
    found = {}
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            environment = (directory / "environ").read_bytes().split(b"\0")
            line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # ended meanwhile, or not ours to look at
            continue
        if mark in environment and line:  # a zombie has no command line
            found[int(directory.name)] = line
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def running_service(
    directory: Path, key: str | None = None, arguments: tuple[str, ...] = (), **settings: Any
) -> Iterator[RunningService]:
    """`tvaccine up` on `directory`; killed with all its children at the end, whatever happened.

    key: the one that an earlier start on the same directory printed.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TVACCINE_DATA_DIR": str(directory),
        **{f"TVACCINE_{name.upper()}": _as_text(value) for name, value in settings.items()},
    }
    directory.mkdir(parents=True, exist_ok=True)
    ready = directory / "ready.json"
    ready.unlink(missing_ok=True)
    log = directory / "up.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*UP, "--ready-file", str(ready), *arguments], stdout=output, stderr=output, env=environment
        )
    try:
        until(lambda: ready.exists() or process.poll() is not None, 60)
        assert ready.exists(), log.read_text()
        told = json.loads(ready.read_text())
        yield RunningService(process, directory, told["url"], key or told["admin_key"], log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in processes_of(directory):
            os.kill(pid, signal.SIGKILL)


def _as_text(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)
