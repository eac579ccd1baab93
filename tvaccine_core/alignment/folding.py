"""Adapters that are frozen for a window, folded into the base weights until it ends: W' = W + scaling * B A.

Between two draws a frozen adapter is a constant, so its thin products need not be computed twice a step, forward and
backward. The original weights are kept and put back as they were, to the bit. That takes the memory of the folded
weights once more. Only float32 and float64 weights are folded: in bfloat16 part of B A would be rounded away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_WIDE = (torch.float32, torch.float64)


class FoldedAdapters:
    """Folds and unfolds linear maps that each carry one plain LoRA adapter without dropout."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules: Sequence[Any] = modules
        self._folded: list[tuple[Any, Tensor, Callable[..., Tensor]]] = []

    def __len__(self) -> int:
        return len(self._folded)

    @property
    def bytes(self) -> int:
        """What the kept original weights take."""
        return sum(weight.numel() * weight.element_size() for _, weight, _ in self._folded)

    def fold(self, trainable: Iterable[nn.Parameter]) -> None:
        """Fold every map whose adapter has no parameter among `trainable`; what was folded before is put back first."""
        self.unfold()
        moving = {id(parameter) for parameter in trainable}
        for module in self._modules:
            name = next(name for name in module.active_adapters if name in module.lora_A)
            down, up = module.lora_A[name].weight, module.lora_B[name].weight
            weight = module.base_layer.weight
            if moving.isdisjoint((id(down), id(up))) and weight.dtype in _WIDE:
                self._folded.append((module, weight.data, module.forward))
                with torch.no_grad():
                    both = (up.to(weight.dtype), down.to(weight.dtype))
                    weight.data = torch.addmm(weight.data, *both, alpha=module.scaling[name])
                module.__dict__["forward"] = module.base_layer.forward

    def unfold(self) -> None:
        """Give every map its own weight and the forward it had."""
        for module, weight, forward in self._folded:
            module.base_layer.weight.data = weight
            module.__dict__["forward"] = forward
        self._folded.clear()
