"""The points of a landscape on disk: one line for each, so that a sweep goes on where it was cut off."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.errors import InvalidRequest, ScoringFailed
from tvaccine_core.training.files import write_text_atomic

Place = tuple[float, ...]
Values = Mapping[str, float]


@dataclass(frozen=True)
class Point:
    """place: how far along each axis. values: what was measured there, by name."""

    place: Place
    values: Values


class PointFile:
    """Measured points in a JSON Lines file whose first line says what was measured.

    A point is on disk when `add` returns; a line that a crash cut short is measured again. Raises InvalidRequest when
    the file is of another identity: another model, prompts or axes.
    """

    def __init__(self, file: Path, identity: Mapping[str, Any]) -> None:
        self._file = file
        self._known: dict[Place, Values] = {}
        header = json.loads(json.dumps(dict(identity), sort_keys=True))
        lines = _whole_lines(file)
        if lines and lines[0].get("identity") != header:
            raise InvalidRequest(
                f"{file.name} holds points of another sweep (model, prompts or axes differ); use another folder.",
                param="out",
            )
        for line in lines[1:]:
            self._known[tuple(line["place"])] = line["values"]
        self._start([{"identity": header}, *lines[1:]])

    def get(self, place: Place) -> Point | None:
        """The point measured there, None if it is still to be measured."""
        values = self._known.get(place)
        return None if values is None else Point(place, values)

    def add(self, place: Place, values: Values) -> Point:
        """Notes a point. Raises ScoringFailed for a value that is no finite number."""
        for name, value in values.items():
            if not math.isfinite(value):
                raise ScoringFailed(f"The measure {name} at {place} is {value}, no number.")
        self._known[place] = dict(values)
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"place": list(place), "values": dict(values)}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return Point(place, self._known[place])

    def _start(self, lines: list[dict[str, Any]]) -> None:
        """Rewrites the file without a broken end."""
        write_text_atomic(self._file, "".join(json.dumps(line) + "\n" for line in lines))


def _whole_lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
