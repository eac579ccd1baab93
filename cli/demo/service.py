"""Start `tvaccine up` for the demo in a folder of its own, and stop it again."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.errors import Unavailable

READY_SECONDS = 60


@dataclass(frozen=True)
class Running:
    """A running service: its address (without /v1), the admin's key and its environment."""

    url: str
    admin_key: str
    env: dict[str, str]


@contextmanager
def running_service(folder: Path, settings: dict[str, Any]) -> Iterator[Running]:
    """`tvaccine up` below `folder` with `settings` (without the TVACCINE_ prefix); stopped at the end.

    Raises:
        Unavailable: the service did not become ready; the message names its log.
    """
    env = dict(os.environ) | {"TVACCINE_DATA_DIR": str(folder / "data")}
    env |= {f"TVACCINE_{name.upper()}": _as_text(value) for name, value in settings.items()}
    ready, log = folder / "ready.json", folder / "service.log"
    port = free_port()
    command = [sys.executable, "-m", "cli.main", "up", "--port", str(port), "--ready-file", str(ready)]
    with log.open("ab") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, env=env)  # noqa: S603 - our own module
        try:
            told = wait_ready(ready, child, log)
            yield Running(str(told["url"]), str(told["admin_key"]), env)
        finally:
            child.terminate()
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
            ready.unlink(missing_ok=True)  # it holds the admin's key


def wait_ready(ready: Path, child: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """What `tvaccine up` says of itself once it answers."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if ready.exists():
            told: dict[str, Any] = json.loads(ready.read_text("utf-8"))
            return told
        if child.poll() is not None:
            break
        time.sleep(0.1)
    raise Unavailable(f"The service did not start. Its log is {log}.")


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
