"""The loss of a supervised step: mean cross-entropy over the answer tokens of a batch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tvaccine_core.alignment.loss import supervised_cross_entropy
from tvaccine_core.training.answer_logits import answer_logits


def answer_loss(model: nn.Module, inputs: Mapping[str, Tensor], *, count: int | None = None) -> Tensor:
    """Sum of the cross-entropies of all supervised tokens, divided by `count` (default: their number).

    inputs: {input_ids, attention_mask, labels}, each (B, T); labels are -100 where nothing is learned.
    count: supervised tokens of the whole accumulated batch, when this is one micro-batch of it.

    Logits are computed for the supervised positions alone where the model can, which saves most of the output
    projection and of its memory.
    """
    logits, targets = answer_logits(model, inputs)
    return supervised_cross_entropy(logits, targets, count=count)
