"""Programs that run as several ranks: two processes of this machine that talk by gloo."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType


def load_program(path: Path) -> ModuleType:
    """The program as a module, to run it in this process."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def two_ranks(*command: str | Path) -> None:
    """Run a Python program as rank 0 and rank 1 of two; fails with the last words of the first that fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for child in children:
            _, errors = child.communicate(timeout=280)
            assert child.returncode == 0, errors[-2000:]
    finally:
        for child in children:
            child.kill()
