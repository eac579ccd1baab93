"""The output head and the loss in one, a few rows of logits at a time.

Where a model returns its head's output unchanged, the logits need never exist as a whole: rows of hidden states go
through the head, the loss and back, and only their gradient is kept. Models that work on the logits afterwards (soft
caps, scales) are recognised at their first forward and keep the ordinary way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tvaccine_core.alignment.loss import rows_loss, supervised_cross_entropy

# Rows of logits at a time: enough for fast products, few enough to stay out of the way.
_ROWS = 128


class Head:
    """The head of one model, with its forward replaced; `remove` puts it back."""

    def __init__(self, model: nn.Module) -> None:
        head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        # None: not known yet whether the model returns the head's output as it is.
        self._skips: bool | None = False
        self._active = False
        self._skipped = False
        self._produced = 0  # address of what the head produced last
        self._module: Any = None
        if type(head) is nn.Linear and not head.weight.requires_grad and "forward" not in head.__dict__:
            self._skips = None
            self._module = head
            head.__dict__["forward"] = self._forward

    def remove(self) -> None:
        """Give the head its own forward back."""
        if self._module is not None:
            self._module.__dict__.pop("forward", None)

    @contextmanager
    def skipping(self) -> Iterator[None]:
        """Inside the with block the model may hand the head's input on in place of logits."""
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def loss(self, output: Tensor, targets: Tensor, count: int) -> Tensor:
        """The loss for what the model returned as logits, (1, n, V or d), inside `skipping`."""
        rows = output.reshape(-1, output.shape[-1])
        if self._skipped:
            loss: Tensor = _HeadLoss.apply(rows, self._module.weight, self._module.bias, targets, count)
            return loss
        if self._skips is None:
            self._skips = output.data_ptr() == self._produced
        return supervised_cross_entropy(rows, targets, count=count)

    def _forward(self, hidden: Tensor) -> Tensor:
        weight = self._module.weight
        plain = hidden.dtype == weight.dtype and not torch.is_autocast_enabled(hidden.device.type)
        self._skipped = bool(self._active and self._skips and plain)
        if self._skipped:
            return hidden
        output = functional.linear(hidden, weight, self._module.bias)
        self._produced = output.data_ptr()
        return output


class _HeadLoss(torch.autograd.Function):
    """hidden (n, d), weight (V, d), bias (V,) or None, targets (n,) -> summed cross-entropy / count."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, count: int
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        scale = None if gradient is None else 1.0 / count
        for start in range(0, targets.numel(), _ROWS):
            part = slice(start, start + _ROWS)
            logits = functional.linear(hidden[part], weight, bias)
            total += rows_loss(logits, targets[part], wide, scale)
            if gradient is not None:
                torch.mm(logits, weight, out=gradient[part])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output.to(gradient.dtype), None, None, None, None
