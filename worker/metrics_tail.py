"""Read the rows that a running trainer appends to its metrics.jsonl."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MetricsRow = dict[str, Any]


class MetricsTail:
    """Hands out each complete line once; a line still being written waits for the next look.

    A file that was replaced (a resumed run starts from its checkpoint's lines) is read again from its start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inode = 0

    def read(self) -> list[MetricsRow]:
        """The rows that were completed since the last call."""
        try:
            with self._path.open("rb") as lines:
                found = os.fstat(lines.fileno())
                if found.st_ino != self._inode or found.st_size < self._offset:
                    self._inode, self._offset = found.st_ino, 0
                lines.seek(self._offset)
                data = lines.read()
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        return [row for line in data[:end].splitlines() if (row := _parse(line)) is not None]


def _parse(line: bytes) -> MetricsRow | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
