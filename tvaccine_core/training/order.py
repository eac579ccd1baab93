"""The order in which a run sees its rows: a pure function of the seed, so that a resumed run sees the
same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from torch.utils.data import Dataset

T = TypeVar("T")


class ShuffledPasses(Dataset[T], Generic[T]):
    """`length` draws from `rows`: pass after pass over all rows, each pass in its own shuffled order.

    Every row comes up once before any comes up again. Read from front to back by a sequential sampler; passes
    run on into each other, so that only the run's last batch can be short of rows and every step has the same
    size.
    """

    def __init__(self, rows: Sequence[T], length: int, seed: int) -> None:
        if not rows:
            raise ValueError("There are no rows to draw from; give at least one.")
        self._rows = rows
        self._length = length
        self._seed = seed
        self._shuffled: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> T:
        return self._rows[self.row_at(place)]

    def row_at(self, place: int) -> int:
        """Index into `rows` of the draw at `place`."""
        if not 0 <= place < self._length:
            raise IndexError(place)
        turn, offset = divmod(place, len(self._rows))
        if self._shuffled is None or self._shuffled[0] != turn:
            generator = np.random.Generator(np.random.PCG64([self._seed, turn]))
            self._shuffled = turn, generator.permutation(len(self._rows))
        return int(self._shuffled[1][offset])
