"""Which layers an efficient step recomputes so that it stays under a memory budget.

Each recomputed layer costs a further forward of it per pass, so only as many as the budget demands are taken, from
the top down, never a drawn layer and never the last one (which works on few positions anyway). Pass 1 stores less
than pass 2 and is planned on its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tvaccine_core.alignment.batch import SupervisedBatch
from tvaccine_core.alignment.interception import LayerCall
from tvaccine_core.alignment.passes import PositionsPass

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recompute:
    """The layers to recompute in pass 1 (above the lowest drawn one) and in pass 2 with what it shares."""

    first: frozenset[int] = frozenset()
    second: frozenset[int] = frozenset()


@dataclass(frozen=True)
class LayerBytes:
    """What one layer stores for its backward, measured on a batch of `rows` rows of `length` tokens.

    training: with its adapters in the graph; passing: without; boundary: its input alone.
    """

    rows: int
    length: int
    training: float
    passing: float
    boundary: float

    def scaled(self, batch: SupervisedBatch) -> LayerBytes:
        """The same for another batch; attention scores may grow with the square of the length."""
        rows, length = batch.input_ids.shape
        linear = rows * length / (self.rows * self.length)
        stored = linear * max(1.0, length / self.length)
        return LayerBytes(rows, length, self.training * stored, self.passing * stored, self.boundary * linear)


class MeasuringPass(PositionsPass):
    """Counts the bytes that one layer keeps for its backward; every other layer keeps nothing."""

    def __init__(self, batch: SupervisedBatch, last: int, layer: int, known: set[int]) -> None:
        super().__init__(batch, last, frozenset())
        self.positions = batch.positions[:1]  # the head is of no interest here
        self.measured = layer
        self.stored: dict[int, int] = {}
        self.boundary = 0
        self._known = known

    def layer(self, call: LayerCall) -> Tensor:
        """See Pass."""
        if call.index != self.measured:
            return super().layer(call)
        hidden = call.hidden.detach().requires_grad_()
        self.boundary = hidden.untyped_storage().nbytes()
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(self._count, lambda kept: kept):
            output = call.whole(hidden)
        return output.detach()

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self.stored[storage.data_ptr()] = storage.nbytes()
        return tensor


class RecomputePlanner:
    """Plans recomputation for one model. budget: bytes for weights, adapters, optimizer and activations."""

    def __init__(self, model: nn.Module, layers: int, budget: float) -> None:
        self._layers = layers
        self._budget = budget
        self._model = model
        self._bytes: LayerBytes | None = None
        self._warned = False
        self._fixed = _state_bytes(model)

    def plan(
        self,
        batch: SupervisedBatch,
        selected: Sequence[int],
        lowest_trainable: int,
        head: float,
        run: Callable[[MeasuringPass, bool], None],
    ) -> Recompute:
        """The fewest layers to recompute.

        head: bytes that logits and loss need. `run(pass, trains)` runs a forward, with or without adapters on.
        """
        if self._bytes is None:
            self._bytes = self._measure(batch, run)
        sizes = self._bytes.scaled(batch)
        lowest = min(selected, default=lowest_trainable)
        start = min(lowest, lowest_trainable)
        room = self._budget - self._fixed - head - sizes.training
        room -= 2 * len(selected) * sizes.boundary
        free = [i for i in range(self._layers - 2, start - 1, -1) if i not in selected]
        second = free[: _needed((self._layers - start) * sizes.training, room, sizes.training, sizes)]
        kept_below = sum(sizes.boundary if i in second else sizes.training for i in range(start, lowest))
        above = [i for i in free if i > lowest]
        stored = (self._layers - lowest) * sizes.passing
        first = above[: _needed(stored, room - kept_below, sizes.passing, sizes)]
        self._warn_if_short(room, start, len(second), sizes)
        return Recompute(frozenset(first), frozenset(second))

    def _measure(self, batch: SupervisedBatch, run: Callable[[MeasuringPass, bool], None]) -> LayerBytes:
        known = {tensor.untyped_storage().data_ptr() for tensor in self._model.parameters()}
        known |= {tensor.untyped_storage().data_ptr() for tensor in self._model.buffers()}
        totals = []
        for trains in (True, False):
            measuring = MeasuringPass(batch, self._layers - 1, self._layers // 2, known)
            run(measuring, trains)
            totals.append(sum(measuring.stored.values()))
        rows, length = batch.input_ids.shape
        return LayerBytes(rows, length, totals[0], totals[1], measuring.boundary)

    def _warn_if_short(self, room: float, start: int, taken: int, sizes: LayerBytes) -> None:
        least = (self._layers - start - taken) * sizes.training + taken * sizes.boundary
        if least > room and not self._warned:
            self._warned = True
            _LOG.warning(
                "the memory budget of %.2f GB is too small by about %.2f GB even with every frozen layer recomputed; "
                "use a smaller batch, shorter rows or a smaller gamma",
                self._budget / 1e9,
                (least - room) / 1e9,
            )


def _needed(stored: float, room: float, each: float, sizes: LayerBytes) -> int:
    """How many layers of `each` bytes must shrink to their boundary for `stored` to fit into `room`."""
    saved = each - sizes.boundary
    if stored <= room or saved <= 0.0:
        return 0
    return math.ceil((stored - room) / saved)


def _state_bytes(model: nn.Module) -> float:
    """Weights, and for each trainable one its gradient and two moments."""
    total = 0
    for parameter in model.parameters():
        size = parameter.numel() * parameter.element_size()
        total += size * (4 if parameter.requires_grad else 1)
    return float(total)
