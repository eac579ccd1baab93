"""Combinations that a grid leaves out, so that a machine without a GPU runs a part of it. Imports no torch.

    leave_out:
      - {ratio: 0, strength: [weak, strong]}    # harmless rows at one strength only
      - {method: stock, seed: [1, 2]}

An entry leaves out the cells that have all of its values, for every method alike unless it names methods.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tvaccine_core.experiments.keys import mapping, refuse, several

Exclusion = Mapping[str, tuple[Any, ...]]
"""Values by axis."""


def exclusions(values: Any, path: str, known: Mapping[str, Collection[Any]]) -> tuple[Exclusion, ...]:
    """The entries of `leave_out`. known: the grid's values on each axis. Raises InvalidRequest for any other."""
    entries = [] if values is None else several(values, path)
    return tuple(_exclusion(entry, f"{path}[{place}]", known) for place, entry in enumerate(entries))


def _exclusion(values: Any, path: str, known: Mapping[str, Collection[Any]]) -> Exclusion:
    given = mapping(values, path, list(known))
    if not given:
        refuse(path, f"leaves out everything; name at least one of {', '.join(known)}.")
    found = {axis: tuple(several(value, f"{path}.{axis}")) for axis, value in given.items()}
    for axis, wanted in found.items():
        for value in wanted:
            if value not in known[axis]:
                offered = ", ".join(str(one) for one in known[axis])
                refuse(f"{path}.{axis}", f"{value!r} does not occur in this grid; use {offered}.")
    return found


def is_left_out(coordinates: Mapping[str, Any], entries: Sequence[Exclusion]) -> bool:
    """Does an entry leave out the cell at these coordinates?"""
    return any(all(coordinates[axis] in wanted for axis, wanted in entry.items()) for entry in entries)
