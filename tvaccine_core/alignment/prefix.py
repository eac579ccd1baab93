"""The layers below everything that is perturbed or trained, run once for several coming batches.

Between two draws these layers are constant, so their output for a later batch can be computed now. One forward of many
rows is cheaper than many of few rows; it pays for small batches. Needs the network to be the same for all of them: no
dropout, and rows padded on the right, whose real positions do not see the padding that a common length adds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tvaccine_core.alignment.batch import SupervisedBatch
from tvaccine_core.alignment.interception import LayerCall, Pass


@dataclass(frozen=True)
class Prefix:
    """The output of layer `depth` - 1 for one batch: hidden (B, T, d) for input_ids (B, T)."""

    depth: int
    input_ids: Tensor
    hidden: Tensor


class PrefixPass(Pass):
    """Runs the first `depth` layers only, and keeps what comes out."""

    def __init__(self, depth: int, last: int) -> None:
        self.depth = depth
        self.last = last
        self.hidden: Tensor | None = None

    def layer(self, call: LayerCall) -> Tensor:
        """See Pass."""
        if call.index < self.depth:
            output = call.whole(call.hidden)
            if call.index == self.depth - 1:
                self.hidden = output
            return output
        # Nobody asks for logits: the head gets a single position.
        return call.hidden[:1, :1] if call.index == self.last else call.hidden


class Prefixes:
    """Prefixes of the batches that come next, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Prefix] = deque()

    def clear(self) -> None:
        """Forget them: another window has other constant layers."""
        self._waiting.clear()

    def add(self, depth: int, batches: Sequence[SupervisedBatch], hidden: Tensor) -> None:
        """Take the common output, (sum of B, longest T, d), for several batches apart."""
        start = 0
        for batch in batches:
            rows, length = batch.input_ids.shape
            self._waiting.append(Prefix(depth, batch.input_ids, hidden[start : start + rows, :length]))
            start += rows

    def take(self, batch: SupervisedBatch) -> Prefix | None:
        """The prefix of this batch if it is the next one; otherwise None, and the others are of no use either."""
        if not self._waiting:
            return None
        prefix = self._waiting.popleft()
        if torch.equal(prefix.input_ids, batch.input_ids):
            return prefix
        self.clear()
        return None


def joined_ids(batches: Sequence[SupervisedBatch]) -> Tensor:
    """All rows of several batches, (sum of B, longest T), padded on the right."""
    longest = max(batch.input_ids.shape[1] for batch in batches)
    return torch.cat([functional.pad(b.input_ids, (0, longest - b.input_ids.shape[1])) for b in batches])
