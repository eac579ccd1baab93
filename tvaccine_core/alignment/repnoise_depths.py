"""Reading a model at every depth: hidden states, MLP outputs, and what the head would say of a hidden state."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tvaccine_core.alignment.batch import gather_positions, is_right_padded
from tvaccine_core.alignment.head import Head
from tvaccine_core.alignment.interception import Interceptor, LayerCall, Pass, first_of
from tvaccine_core.alignment.scheme import Inputs
from tvaccine_core.errors import UnsupportedArchitecture
from tvaccine_core.models.layers import Layers

_MLP_NAMES = ("mlp", "feed_forward", "feedforward", "ffn", "moe")


@dataclass(frozen=True)
class Depths:
    """hidden: H_0..H_L, each (B, T, d), H_L before the final norm. mlp: m_1..m_L, each (B, T, d) or (B * T, d)."""

    hidden: list[Tensor] = field(default_factory=list)
    mlp: list[Tensor] = field(default_factory=list)


class _ReadingPass(Pass):
    """Keeps the hidden states. What the model makes of the last one is not wanted, so it gets one position of it."""

    def __init__(self, depths: Depths, last: int) -> None:
        self._hidden = depths.hidden
        self._last = last

    def layer(self, call: LayerCall) -> Tensor:
        if call.index == 0:
            self._hidden.append(call.hidden)
        self._hidden.append(call.whole(call.hidden))
        return self._hidden[-1][:1, :1] if call.index == self._last else self._hidden[-1]


class _GivenPass(Pass):
    """Every layer returns one and the same tensor, so that the model's own norm and head work on it."""

    def __init__(self, hidden: Tensor) -> None:
        self._hidden = hidden

    def layer(self, call: LayerCall) -> Tensor:
        del call
        return self._hidden


class DepthReader:
    """Reads one model in place, by its own code; `close` gives it back as it was."""

    def __init__(self, model: Any, layers: Layers) -> None:
        self._model = model
        self._mlps = find_mlps(layers)
        self._head = Head(model)
        # The head's forward was replaced where logits are not needed as a whole.
        self._fused = "forward" in vars(model.get_output_embeddings())
        self._interceptor = Interceptor(layers)
        # Position and padding are nothing to the norm and the head, which work on each position alone.
        self._any_token = torch.zeros(1, 1, dtype=torch.int64, device=next(model.parameters()).device)

    def close(self) -> None:
        """Give every module its own forward back."""
        self._interceptor.remove()
        self._head.remove()

    def read(self, inputs: Inputs) -> Depths:
        """One forward of {input_ids, attention_mask}, each (B, T), with a graph as far as adapters train."""
        depths = Depths()
        mask = inputs["attention_mask"]
        with self._interceptor.using(_ReadingPass(depths, len(self._mlps) - 1)):
            handles = [mlp.register_forward_hook(partial(_keep, depths.mlp)) for mlp in self._mlps]
            try:
                attention_mask = None if is_right_padded(mask) else mask
                self._model(input_ids=inputs["input_ids"], attention_mask=attention_mask, use_cache=False)
            finally:
                for handle in handles:
                    handle.remove()
        return depths

    def cross_entropy(self, hidden: Tensor, positions: Tensor, targets: Tensor, count: int) -> Tensor:
        """Sum over the positions of CE(head(norm(hidden)), target), divided by `count`.

        hidden: (B, T, d), after `read`. positions: (n,), flat. targets: (n,). The logits of two depths are never alive
        at once: where they cannot be done without, they are computed again in the backward.
        """
        given = gather_positions(hidden, positions)
        if self._fused:
            return self._asked(given, targets, count)
        loss: Tensor = checkpoint(self._asked, given, targets, count, use_reentrant=False, preserve_rng_state=False)
        return loss

    def _asked(self, hidden: Tensor, targets: Tensor, count: int) -> Tensor:
        with self._interceptor.using(_GivenPass(hidden)), self._head.skipping():
            output = self._model(input_ids=self._any_token, use_cache=False).logits
            return self._head.loss(output, targets, count)


def _keep(kept: list[Tensor], module: nn.Module, args: Any, output: Any) -> None:
    del module, args
    kept.append(first_of(output))


def find_mlps(layers: Layers) -> tuple[nn.Module, ...]:
    """The module of each layer whose output is the MLP's: a child named like one, or else the layer's last linear map.

    Raises UnsupportedArchitecture for a layer that has neither.
    """
    return tuple(_mlp_of(layer, attention) for layer, attention in zip(layers.layers, layers.attention, strict=True))


def _mlp_of(layer: nn.Module, attention: nn.Module) -> nn.Module:
    maps = {
        name: child
        for name, child in layer.named_children()
        if child is not attention and any(weight.dim() > 1 for weight in child.parameters())
    }
    named = [child for name, child in maps.items() if any(word in name.lower() for word in _MLP_NAMES)]
    if len(named) == 1:
        return named[0]
    if named or not maps:
        raise UnsupportedArchitecture(
            f"A layer of this model has {len(named)} modules that look like its MLP; RepNoise needs one. "
            "Choose another base or another alignment method."
        )
    return list(maps.values())[-1]
