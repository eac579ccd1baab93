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

from tvaccine_core.alignment.dropout import forked_generators
from tvaccine_core.alignment.loss import rows_loss, supervised_cross_entropy

# Rows of logits at a time: enough for fast products, few enough to stay out of the way.
_ROWS = 128


class Head:
    """The head of one model, with its forward replaced where that helps; `remove` puts it back."""

    def __init__(self, model: Any) -> None:
        self._module: Any = _plain_head(model)
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        self._active = False
        self._skipped = False
        if self._module is not None:
            self._module.__dict__["forward"] = self._forward

    def remove(self) -> None:
        """Give the head its own forward back."""
        if self._module is not None:
            self._module.__dict__.pop("forward", None)

    def bytes_for(self, rows: int, item: int) -> int:
        """What logits and scratch for `rows` supervised positions take, at `item` bytes a number."""
        return head_bytes(self._vocabulary, rows, item, whole=self._module is None)

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
        if not self._skipped:
            return supervised_cross_entropy(rows, targets, count=count)
        loss: Tensor = _HeadLoss.apply(rows, self._module.weight, self._module.bias, targets, count)
        return loss

    def _forward(self, hidden: Tensor) -> Tensor:
        weight = self._module.weight
        plain = hidden.dtype == weight.dtype and not torch.is_autocast_enabled(hidden.device.type)
        self._skipped = self._active and plain
        return hidden if self._skipped else functional.linear(hidden, weight, self._module.bias)


def head_bytes(vocabulary: int, rows: int, item: int, *, whole: bool) -> int:
    """What logits and scratch for `rows` supervised positions take. whole: the logits exist for all rows at once."""
    held = rows if whole else min(rows, _ROWS)
    scratch = 2 * 4 * min(rows, _ROWS)
    return vocabulary * (held * item + scratch)


def _plain_head(model: Any) -> nn.Linear | None:
    """The model's head if it is a frozen linear map whose output the model returns as it is, else None."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if type(head) is not nn.Linear or head.weight.requires_grad or "forward" in head.__dict__:
        return None
    produced: list[Tensor] = []
    device = head.weight.device
    handle = head.register_forward_hook(lambda *call: produced.append(call[-1]))
    try:
        with torch.no_grad(), forked_generators(device):
            logits = model(input_ids=torch.zeros(1, 2, dtype=torch.int64, device=device)).logits
    finally:
        handle.remove()
    return head if len(produced) == 1 and produced[0].data_ptr() == logits.data_ptr() else None


class _HeadLoss(torch.autograd.Function):
    """hidden (n, d), weight (V, d), bias (V,) or None, targets (n,) -> summed cross-entropy / count."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, count: int) -> Tensor:
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
