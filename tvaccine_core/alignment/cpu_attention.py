"""Fused attention in float32 for bfloat16 models on a CPU.

The backward of PyTorch's fused attention kernel is several times slower in bfloat16 than in float32 on a CPU, slow
enough to pay for casting queries, keys and values. The result is at least as exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

_NAME = "sdpa_float32"


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    output, weights = sdpa_attention_forward(
        module, query.float(), key.float(), value.float(), attention_mask, **kwargs
    )
    return output.to(query.dtype), weights


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)


def attend_in_float32(model: Any) -> Callable[[], None]:
    """Switch a bfloat16 model on a CPU that uses fused attention over; call the result to switch it back."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    weight = next(base.parameters())
    fused = base.config._attn_implementation == "sdpa"
    if not (fused and weight.device.type == "cpu" and weight.dtype == torch.bfloat16):
        return _nothing
    base.set_attn_implementation(_NAME)
    return lambda: base.set_attn_implementation("sdpa")


def _nothing() -> None:
    """There is nothing to switch back."""
