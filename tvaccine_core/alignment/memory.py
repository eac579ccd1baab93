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

TRAINED_COPIES = 4
"""A weight that trains, its gradient and the optimizer's two moments."""


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
        if storage._cdata not in self._known:  # where it lies says nothing of tensors that are only imagined
            self.stored[storage._cdata] = storage.nbytes()
        return tensor


def held_storages(model: nn.Module) -> set[int]:
    """What a model's weights and buffers hold anyway, for MeasuringPass to leave out."""
    return {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}


@dataclass(frozen=True)
class Plan:
    """Which layers are recomputed, and the bytes that the second pass then keeps at its peak.

    Counts every layer from the lowest that takes part as one that trains, one layer more for what a recomputation
    makes, and the perturbations.
    """

    recompute: Recompute
    stored: float


def plan_recompute(sizes: LayerBytes, layers: int, room: float, selected: Sequence[int], lowest_trainable: int) -> Plan:
    """The fewest layers to recompute so that activations stay in `room` bytes, or all that may be."""
    lowest = min(selected, default=lowest_trainable)
    start = min(lowest, lowest_trainable)
    # Gradients at the drawn layers, then their perturbations.
    beside = sizes.training + len(selected) * sizes.boundary
    room -= beside
    free = [i for i in range(layers - 2, start - 1, -1) if i not in selected]
    second = free[: _needed((layers - start) * sizes.training, room, sizes.training, sizes)]
    kept_below = sum(sizes.boundary if i in second else sizes.training for i in range(start, lowest))
    above = [i for i in free if i > lowest]
    first = above[: _needed((layers - lowest) * sizes.passing, room - kept_below, sizes.passing, sizes)]
    kept = (layers - start - len(second)) * sizes.training + len(second) * sizes.boundary
    return Plan(Recompute(frozenset(first), frozenset(second)), kept + beside)


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
        held: float,
        run: Callable[[MeasuringPass, bool], None],
    ) -> Recompute:
        """The fewest layers to recompute.

        held: bytes that logits, loss and folded weights need. `run(pass, trains)` runs a forward, with or without
        adapters on.
        """
        if self._bytes is None:
            self._bytes = measure_layer(batch, self._layers, held_storages(self._model), run)
        room = self._budget - self._fixed - held
        plan = plan_recompute(self._bytes.scaled(batch), self._layers, room, selected, lowest_trainable)
        self._warn_if_short(plan.stored - room)
        return plan.recompute

    def _warn_if_short(self, missing: float) -> None:
        if missing > 0.0 and not self._warned:
            self._warned = True
            _LOG.warning(
                "the memory budget of %.2f GB is too small by about %.2f GB even with every frozen layer recomputed; "
                "use a smaller batch, shorter rows or a smaller gamma",
                self._budget / 1e9,
                missing / 1e9,
            )


def measure_layer(
    batch: SupervisedBatch,
    layers: int,
    known: set[int],
    run: Callable[[MeasuringPass, bool], None],
    make: type[MeasuringPass] = MeasuringPass,
) -> LayerBytes:
    """What the middle one of `layers` layers stores for this batch. `run`: as for RecomputePlanner.plan."""
    totals = []
    for trains in (True, False):
        measuring = make(batch, layers - 1, layers // 2, known)
        run(measuring, trains)
        totals.append(sum(measuring.stored.values()))
    rows, length = batch.input_ids.shape
    return LayerBytes(rows, length, totals[0], totals[1], measuring.boundary)


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
        scales = getattr(getattr(parameter, "quant_state", None), "absmax", None)
        size += 0 if scales is None else scales.numel() * scales.element_size()
        total += size * (TRAINED_COPIES if parameter.requires_grad else 1)
    return float(total)
