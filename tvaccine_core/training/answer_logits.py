"""The logits of the positions that predict an answer's tokens, and no others where the model can leave them out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from peft import PeftModel
from torch import Tensor, nn

from tvaccine_core.alignment.batch import supervised_batch


def answer_logits(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (n, V) and targets (n,) of the n supervised predictions of a batch, row by row.

    inputs: {input_ids, attention_mask, labels}, each (B, T); labels are -100 where nothing is learned. Raises
    ValueError if nothing is supervised.
    """
    batch = supervised_batch(inputs)
    rows, length = batch.input_ids.shape
    if not _keeps_logits(model):
        full = model(**batch.model_inputs(), use_cache=False).logits
        return full.reshape(rows * length, -1)[batch.positions], batch.targets
    keep = torch.zeros(rows * length, dtype=torch.bool, device=batch.input_ids.device)
    keep[batch.positions] = True
    logits = model(**batch.model_inputs(), use_cache=False, logits_to_keep=keep.view(rows, length)).logits
    return logits.reshape(batch.targets.numel(), -1), batch.targets


def _keeps_logits(model: nn.Module) -> bool:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters
