"""Which code, libraries and machine a result was made with. Imports no torch."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGE = "tvaccine"
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy")
_HERE = Path(__file__).resolve().parent


def code_version() -> str:
    """`git describe` of the checkout this runs from ("-dirty" with uncommitted changes), else the package's version."""
    git = shutil.which("git")
    if git is not None and (_HERE.parents[1] / ".git").exists():
        command = [git, "-C", str(_HERE), "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip()
    return _installed(PACKAGE) or "unknown"


def surroundings() -> dict[str, Any]:
    """Versions of Python and the libraries, and the kind of machine."""
    found = {name: _installed(name) for name in LIBRARIES}
    return {"python": platform.python_version(), "machine": platform.machine(), "libraries": found}


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
