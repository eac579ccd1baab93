"""The loss of a supervised step: mean cross-entropy over the answer tokens of a batch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from peft import PeftModel
from torch import Tensor, nn

from tvaccine_core.alignment.batch import supervised_batch
from tvaccine_core.alignment.loss import supervised_cross_entropy


def answer_loss(model: nn.Module, inputs: Mapping[str, Tensor], *, count: int | None = None) -> Tensor:
    """Sum of the cross-entropies of all supervised tokens, divided by `count` (default: their number).

    inputs: {input_ids, attention_mask, labels}, each (B, T); labels are -100 where nothing is learned.
    count: supervised tokens of the whole accumulated batch, when this is one micro-batch of it.

    Logits are computed for the supervised positions alone where the model can, which saves most of the output
    projection and of its memory.
    """
    batch = supervised_batch(inputs)
    rows, length = batch.input_ids.shape
    kwargs: dict[str, object] = {"input_ids": batch.input_ids, "use_cache": False}
    if batch.attention_mask is not None:
        kwargs["attention_mask"] = batch.attention_mask
    if _keeps_logits(model):
        keep = torch.zeros(rows * length, dtype=torch.bool, device=batch.input_ids.device)
        keep[batch.positions] = True
        logits = model(**kwargs, logits_to_keep=keep.view(rows, length)).logits
    else:
        full = model(**kwargs).logits
        logits = full.reshape(rows * length, -1)[batch.positions]
    return supervised_cross_entropy(logits.reshape(batch.targets.numel(), -1), batch.targets, count=count)


def _keeps_logits(model: nn.Module) -> bool:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters
