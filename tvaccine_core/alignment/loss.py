"""Mean cross-entropy over the supervised tokens, twice: economical, and plain.

Both stay in float64 for a float64 model (transformers' own loss casts to float32) and compute in float32 for lower
precisions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tvaccine_core.alignment.batch import IGNORED

# Rows of the logits worked on at a time: bounds the scratch memory to this many rows of the vocabulary.
_ROWS = 64


def shifted_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The plain form: logits (B, T, V), labels (B, T) with -100 where unsupervised -> scalar mean."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    flat = logits[:, :-1].reshape(-1, logits.shape[-1]).to(wide)
    return functional.cross_entropy(flat, labels[:, 1:].reshape(-1), ignore_index=IGNORED)


def supervised_cross_entropy(logits: Tensor, targets: Tensor, *, count: int | None = None) -> Tensor:
    """Sum of the cross-entropies of logits (n, V) and targets (n,), divided by `count` (default n).

    Writes the gradient over the logits instead of beside them: the logits are the largest tensor of a step, and
    nobody reads them after the loss. Autograd's version counter turns any later read in a backward into an error.
    """
    loss: Tensor = _CrossEntropyInPlace.apply(logits, targets, count or targets.numel())
    return loss


class _CrossEntropyInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, count: int) -> Tensor:
        wide = torch.promote_types(logits.dtype, torch.float32)
        keep = ctx.needs_input_grad[0]
        buffer = logits.detach()
        total = torch.zeros((), dtype=wide, device=logits.device)
        for start in range(0, targets.numel(), _ROWS):
            rows = buffer[start : start + _ROWS]
            total += rows_loss(rows, targets[start : start + _ROWS], wide, 1.0 / count if keep else None)
        if keep:
            ctx.save_for_backward(buffer)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        if grad_output.device.type == "cpu" and grad_output.item() == 1.0:
            return gradient, None, None
        return gradient * grad_output.to(gradient.dtype), None, None


def rows_loss(rows: Tensor, targets: Tensor, wide: torch.dtype, scale: float | None) -> Tensor:
    """Summed cross-entropy of some rows of logits (m, V) with targets (m,), computed in the dtype `wide`.

    With `scale`, the rows are overwritten by the gradient of scale * that sum: scale * (softmax - one-hot).
    """
    work = rows.to(wide)
    picked = work.gather(1, targets.unsqueeze(1))
    normaliser = work.logsumexp(dim=1, keepdim=True)
    loss = (normaliser - picked).sum()
    if scale is not None:
        work.sub_(normaliser).exp_().mul_(scale)
        work.scatter_add_(1, targets.unsqueeze(1), torch.full_like(picked, -scale))
        if work is not rows:
            rows.copy_(work)
    return loss
