"""The T-Vaccine step as the published code computes it, for benchmarks only.

Eager attention, all layers but the drawn ones (and, in models of more than 26 layers, the ones below them) under
re-entrant activation checkpointing in both passes, parameter gradients in both passes, logits at every position,
gradients caught by hooks and copied. Because a re-entrant checkpoint whose input needs no gradient gives an output
that needs none, adapters below the lowest layer that is not checkpointed get no gradient here.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tvaccine_core.alignment.freezing import Window
from tvaccine_core.alignment.interception import Interceptor, LayerCall, Pass
from tvaccine_core.alignment.perturbation import frobenius_norm, frobenius_norms, joint_norm, scale_to_perturbation
from tvaccine_core.alignment.scheme import Backward, Inputs, Scheme, StepReport, unperturbed_report
from tvaccine_core.models.layers import Layers

_DEEP = 26  # more layers than this, and the layer below each drawn one is not checkpointed either


class PublishedScheme(Scheme):
    """See the module's docstring. attention: the kernel to use; None keeps the model's."""

    def __init__(self, model: Any, layers: Layers, rho: float, attention: str | None = "eager") -> None:
        super().__init__(model, layers, rho)
        self._interceptor = Interceptor(layers)
        self._previous_attention: str | None = None
        if attention is not None:
            self._previous_attention = model.config._attn_implementation
            _set_attention(model, attention)

    def close(self) -> None:
        """See Scheme."""
        self._interceptor.remove()
        if self._previous_attention is not None:
            _set_attention(self.model, self._previous_attention)

    def probe(self, inputs: Inputs, rows: int) -> list[float]:
        """See Scheme; works on the whole batch at once."""
        del rows
        every = frozenset(range(len(self.layers)))
        gradients = _CatchingPass(every, every)
        self._loss(gradients, inputs, torch.Tensor.backward)
        self.model.zero_grad()
        return [float(frobenius_norm(gradients.caught[i])) for i in sorted(every)]

    def step(self, inputs: Inputs, backward: Backward) -> StepReport:
        """See Scheme."""
        selected = frozenset(self.window.selected)
        kept = _kept_layers(self.window, len(self.layers))
        if not selected:
            return unperturbed_report(self._loss(_ShiftingPass(kept, {}), inputs, backward))
        first = _CatchingPass(selected, kept)
        loss = self._loss(first, inputs, torch.Tensor.backward)
        self.model.zero_grad()
        eps = [first.caught[i] for i in self.window.selected]
        norms = frobenius_norms(eps)
        scale_to_perturbation(eps, self.rho, joint_norm(norms))
        second = _ShiftingPass(kept, dict(zip(self.window.selected, eps, strict=True)))
        perturbed = self._loss(second, inputs, backward)
        nominal = frobenius_norms(eps)
        return StepReport(loss.detach(), perturbed.detach(), norms, nominal, nominal)

    def _loss(self, current: Pass, inputs: Inputs, backward: Backward) -> Tensor:
        with self._interceptor.using(current), warnings.catch_warnings():
            # That is how this scheme leaves the lowest layers out.
            warnings.filterwarnings("ignore", message="None of the inputs have requires_grad=True")
            loss: Tensor = self.model(**inputs, use_cache=False).loss
            backward(loss)
        return loss.detach()


class _CheckpointingPass(Pass):
    def __init__(self, kept: frozenset[int]) -> None:
        self.kept = kept

    def layer(self, call: LayerCall) -> Tensor:
        if call.index in self.kept:
            return call.whole(call.hidden)
        output: Tensor = checkpoint(call.whole, call.hidden, use_reentrant=True)
        return output


class _CatchingPass(_CheckpointingPass):
    def __init__(self, selected: frozenset[int], kept: frozenset[int]) -> None:
        super().__init__(kept)
        self.selected = selected
        self.caught: dict[int, Tensor] = {}

    def attention(self, index: int, output: Tensor) -> Tensor:
        if index in self.selected:
            if not output.requires_grad:  # nothing below trains
                output = output.detach().requires_grad_()
            output.register_hook(lambda gradient: self.caught.__setitem__(index, gradient.clone()))
        return output


class _ShiftingPass(_CheckpointingPass):
    def __init__(self, kept: frozenset[int], eps: dict[int, Tensor]) -> None:
        super().__init__(kept)
        self.eps = eps

    def attention(self, index: int, output: Tensor) -> Tensor:
        return output + self.eps[index] if index in self.eps else output


def _kept_layers(window: Window, layers: int) -> frozenset[int]:
    kept = set(window.selected) if window.selected else set(range(layers))
    if layers > _DEEP:
        kept |= {index - 1 for index in window.selected if index > 0}
    return frozenset(kept)


def _set_attention(model: Any, attention: str) -> None:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.set_attn_implementation(attention)
