"""Reading the keys of a grid: every fault names the key by its path in the file, such as `methods[2].alignment.rho`.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from tvaccine_core.errors import ClientError, InvalidRequest


def refuse(path: str, problem: str) -> NoReturn:
    """Raises InvalidRequest: `path` and what is wrong with it, ending with what to do."""
    raise InvalidRequest(f"{path}: {problem}", param=path)


@contextmanager
def under(path: str) -> Iterator[None]:
    """Inside the with block, errors of a configuration get `path` before the field that they name."""
    try:
        yield
    except ClientError as error:
        where = f"{path}.{error.param}" if error.param else path
        raise InvalidRequest(f"{where}: {error.message}", param=where) from error


def mapping(
    value: Any, path: str, known: Collection[str] | None = None, needed: Collection[str] = ()
) -> dict[str, Any]:
    """A mapping with text keys, all of them `known` (None: any) and all `needed` ones present."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        refuse(path, f"must be a mapping of names to values, not {value!r:.60}.")
    for key in value:
        if known is not None and key not in known:
            refuse(f"{path}.{key}".lstrip("."), f"is no key of a grid here; use {', '.join(known)}.")
    for key in needed:
        if key not in value:
            refuse(f"{path}.{key}".lstrip("."), "is missing; add it.")
    return dict(value)


def several(value: Any, path: str) -> list[Any]:
    """A list with at least one entry; one value alone counts as a list of it."""
    found = list(value) if isinstance(value, list | tuple) else [value]
    if value is None or not found:
        refuse(path, "needs at least one entry; add one.")
    return found


def different(names: list[Any], path: str) -> None:
    """Refuses an entry that comes twice."""
    for place, name in enumerate(names):
        if name in names[:place]:
            refuse(f"{path}[{place}]", f"{name!r} comes twice; give each its own name or drop one.")


def label(value: Any, path: str) -> str:
    """A name for files and tables: 1 to 60 characters, no slash, no line break."""
    if not isinstance(value, str) or not value.strip() or len(value) > 60 or set(value) & set("/\\\n\r\t\0"):
        refuse(path, f"must be a name of 1 to 60 characters without slashes, not {value!r:.80}.")
    return value


def text(value: Any, path: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        refuse(path, f"must be a text, not {value!r:.60}.")
    return value


def whole(value: Any, path: str, low: int, high: int) -> int:
    """A whole number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        refuse(path, f"must be a whole number from {low} to {high}, not {value!r:.40}.")
    return value


def number(value: Any, path: str, low: float, high: float) -> float:
    """A number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        refuse(path, f"must be a number from {low:g} to {high:g}, not {value!r:.40}.")
    if not low <= value <= high:
        refuse(path, f"must lie between {low:g} and {high:g}, not {value!r:.40}.")
    return float(value)


def flag(value: Any, path: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        refuse(path, f"must be true or false, not {value!r:.40}.")
    return value
