"""The micro-batches that come after the present one, read from the data loader ahead of their turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any


class ComingBatches:
    """Keeps up to `depth` micro-batches in sight, the present one included; 1 reads nothing ahead.

    Reading ahead changes nothing that a checkpoint holds: which rows a step sees follows from its number alone.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._read: deque[Any] = deque()
        self._step: Sequence[Any] = ()

    def through(self, loader: Iterator[Any]) -> Iterator[Any]:
        """The loader's batches in their order, with `depth` of them read before the first is handed out."""
        while True:
            while len(self._read) < self.depth and (batch := next(loader, None)) is not None:
                self._read.append(batch)
            if not self._read:
                return
            yield self._read.popleft()

    def start_step(self, batches: Sequence[Any]) -> None:
        """These are the micro-batches of the optimizer step that begins."""
        self._step = batches

    def after(self, place: int, most: int) -> list[Any]:
        """What follows micro-batch `place` of the present step: at most `most` batches, within what is in sight."""
        waiting = [*self._step[place + 1 :], *self._read]
        return waiting[: min(most, self.depth - 1)]
