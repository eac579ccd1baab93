"""Seconds and peak memory of a part of a run.

On a GPU the peak is the allocator's, which is set back first. On a CPU it is the highest resident size of the process
while the part ran: Linux lets a process set that mark back (proc(5), clear_refs, value 5). Where that is not possible
the peak is the one since the process began, and says so.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_MARK, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"


@dataclass
class Cost:
    """seconds of wall-clock time; peak_memory in bytes, by kind."""

    seconds: float = 0.0
    peak_memory: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"seconds": round(self.seconds, 3), "peak_memory": dict(self.peak_memory)}


@contextmanager
def measured(device: str) -> Iterator[Cost]:
    """Gives a cost that is filled in when the with block ends. device: "cpu" or "cuda".

    What earlier parts left unused is given back to the system first, so that it does not count here.
    """
    cost = Cost()
    release_memory()
    whole = _set_back(device)
    started = time.monotonic()
    try:
        yield cost
    finally:
        cost.seconds = time.monotonic() - started
        cost.peak_memory = _peak(device, since_start=not whole)


def release_memory() -> None:
    """Gives memory that nothing uses back to the system, as far as it lets us."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library, which has no such call
        return


def _set_back(device: str) -> bool:
    """Sets the peak back; False where the system does not let us."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        _MARK.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _peak(device: str, *, since_start: bool) -> dict[str, int]:
    if device == "cuda":
        return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    if since_start:
        return {"resident_since_start": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return {"resident": int(line.split()[1]) * 1024}
