"""The two forwards of an efficient step, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.checkpoint import checkpoint

from tvaccine_core.alignment.batch import SupervisedBatch, gather_positions
from tvaccine_core.alignment.interception import LayerCall, Pass, first_of
from tvaccine_core.alignment.perturbation import frobenius_norm
from tvaccine_core.alignment.prefix import Prefix


@dataclass(frozen=True)
class Shared:
    """What both passes have in common: the input of the lowest drawn layer and its attention's answer.

    Both carry a graph as far as adapters train there. hidden: (B, T, d).
    """

    hidden: Tensor
    answer: Any


class PositionsPass(Pass):
    """Runs the last layer, from its attention's output on, for the predicting positions only.

    The layer then returns (1, n, d), and final norm and head follow suit. Layers in `recompute` store their input only.
    """

    def __init__(self, batch: SupervisedBatch, last: int, recompute: frozenset[int]) -> None:
        self.positions = batch.positions
        self.last = last
        self.recompute = recompute

    def layer(self, call: LayerCall) -> Tensor:
        """See Pass."""
        if call.index == self.last:
            answer = call.until_attention(call.hidden)
            return self.finish(call, call.hidden, answer, self.attention(call.index, first_of(answer)))
        if call.index in self.recompute and torch.is_grad_enabled():
            # Dropout masks, if any, come from seeds that the layer sets itself.
            output: Tensor = checkpoint(call.whole, call.hidden, use_reentrant=False, preserve_rng_state=False)
            return output
        return call.whole(call.hidden)

    def finish(self, call: LayerCall, hidden: Tensor, answer: Any, output: Tensor) -> Tensor:
        """The layer from its attention's `output` on."""
        if call.index == self.last:
            hidden = gather_positions(hidden, self.positions)
            output = gather_positions(output, self.positions)
        return call.after_attention(hidden, answer, output)


class GradientPass(PositionsPass):
    """Pass 1: a graph from the attention output of the lowest drawn layer up, without any parameter in it.

    Adapters are on when it starts (what it shares with pass 2 needs them) and off when it has passed the lowest
    drawn layer; whoever runs it switches them on again. `outputs` says where in the graph to differentiate; the
    attention outputs themselves are not kept. prefix: what the lowest layers put out, where it was computed before.
    """

    def __init__(
        self,
        batch: SupervisedBatch,
        last: int,
        selected: frozenset[int],
        trainable: Iterable[nn.Parameter],
        lowest_trainable: int,
        recompute: tuple[frozenset[int], frozenset[int]],
        prefix: Prefix | None = None,
    ) -> None:
        super().__init__(batch, last, recompute[1])
        self.prefix = prefix
        self.selected = selected
        self.lowest = min(selected)
        self.outputs: dict[int, GradientEdge] = {}
        self.shared: Shared | None = None
        self._trainable = trainable
        self._lowest_trainable = lowest_trainable
        self._recompute_above = recompute[0]

    def layer(self, call: LayerCall) -> Tensor:
        """See Pass."""
        if self.prefix is not None and call.index < self.prefix.depth:
            return self.prefix.hidden if call.index == self.prefix.depth - 1 else call.hidden
        if call.index < self.lowest:
            with torch.set_grad_enabled(call.index >= self._lowest_trainable):
                return super().layer(call)
        if call.index == self.lowest:
            return self._start(call)
        return super().layer(call)

    def _start(self, call: LayerCall) -> Tensor:
        with torch.set_grad_enabled(self._lowest_trainable <= call.index):
            answer = call.until_attention(call.hidden)
        self.shared = Shared(call.hidden, answer)
        switch(self._trainable, False)
        self.recompute = self._recompute_above
        leaf = first_of(answer).detach().requires_grad_()
        self.outputs[call.index] = get_gradient_edge(leaf)
        return self.finish(call, call.hidden.detach(), answer, leaf)

    def attention(self, index: int, output: Tensor) -> Tensor:
        """See Pass."""
        if index in self.selected:
            self.outputs[index] = get_gradient_edge(output)
        return output


class TrainingPass(PositionsPass):
    """Pass 2: the forward that trains, with eps added; starts from what pass 1 shared, or from the bottom.

    Takes each perturbation out of `eps` when it adds it: no drawn layer is ever recomputed, so none is needed twice,
    and when stored activations are at their peak every perturbation is gone.
    """

    def __init__(
        self,
        batch: SupervisedBatch,
        last: int,
        shared: Shared | None,
        eps: dict[int, Tensor],
        recompute: frozenset[int],
    ) -> None:
        super().__init__(batch, last, recompute)
        self.shared = shared
        self.eps = eps
        self.lowest = min(eps, default=-1)
        self.shifts: list[Tensor] = []

    def layer(self, call: LayerCall) -> Tensor:
        """See Pass."""
        if self.shared is None or call.index > self.lowest:
            return super().layer(call)
        if call.index < self.lowest:
            return call.hidden  # not used: the lowest drawn layer starts from what is shared
        output = self.attention(call.index, first_of(self.shared.answer))
        return self.finish(call, self.shared.hidden, self.shared.answer, output)

    def attention(self, index: int, output: Tensor) -> Tensor:
        """See Pass."""
        eps = self.eps.pop(index, None)
        if eps is None:
            return output
        shifted = output + eps
        self.shifts.append(frobenius_norm((shifted - output).detach()))
        return shifted


def switch(parameters: Iterable[nn.Parameter], on: bool) -> None:
    """Let parameters take part in the graph, or not, without touching their gradients."""
    for parameter in parameters:
        parameter.requires_grad_(on)
