"""The harmful rows that probes look at. They are never trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from tvaccine_core.data.tokenise import Example
from tvaccine_core.training.order import ShuffledPasses

# Far more probes than any run makes.
_ENDLESS = 10**12


class HarmfulBatches:
    """Batches of harmful rows, pass after pass over all of them, each pass in a shuffled order of its own.

    `taken` counts the rows handed out: setting it back to a saved value resumes the sequence exactly.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        collate: Callable[[Sequence[Example]], dict[str, Tensor]],
        batch_size: int,
        seed: int,
    ) -> None:
        self.taken = 0
        self._rows = ShuffledPasses(examples, _ENDLESS, seed)
        self._collate = collate
        self._batch_size = min(batch_size, len(examples))

    def next(self) -> dict[str, Tensor]:
        """The next batch, {input_ids, attention_mask, labels}, each (B, T)."""
        places = range(self.taken, self.taken + self._batch_size)
        self.taken += self._batch_size
        return self._collate([self._rows[place] for place in places])
