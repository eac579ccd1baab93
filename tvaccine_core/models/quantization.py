"""Base models in 4 bits, for training adapters on less memory (QLoRA, arXiv 2305.14314).

The weights of the decoder layers' linear maps are kept as 4-bit NormalFloat numbers in blocks of 64 with an 8-bit scale
each, and multiplied in the dtype of the rest of the model. Embeddings, norms and the output head stay as they are.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.quantizations import NOT_QUANTIZED, QUANTIZATIONS

BYTES_PER_WEIGHT = 0.5 + (1 + 4 / 256) / 64
"""A 4-bit number, and for 64 of them an 8-bit scale of which 256 share one of 32 bits."""


def check_quantization(quantization: str, device: torch.device, dtype: torch.dtype) -> None:
    """Raises InvalidRequest unless this machine can load a base with this quantization; "none" always can.

    dtype: of the products with the weights.
    """
    if quantization == NOT_QUANTIZED:
        return
    if quantization not in QUANTIZATIONS:
        message = f"quantization must be one of {', '.join(QUANTIZATIONS)}, not {quantization!r}."
        raise InvalidRequest(message, param="quantization")
    if dtype == torch.float64:
        raise InvalidRequest("A base in 4 bits computes in bfloat16 or float32, not in float64.", param="dtype")
    if device.type != "cuda" or not torch.cuda.is_available():
        raise InvalidRequest(
            f"A base in 4 bits needs a CUDA GPU, and this run is on {device.type}; leave quantization out.",
            param="quantization",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InvalidRequest(
            "A base in 4 bits needs the library bitsandbytes; install it with pip install 'tvaccine[qlora]', or "
            "leave quantization out.",
            param="quantization",
        )


def four_bit_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """What transformers is told to load a base in 4 bits. dtype: of the products, and of all that is not quantised."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def is_four_bit(module: nn.Module) -> bool:
    """Whether a linear map holds its weight in 4 bits."""
    return getattr(getattr(module, "weight", None), "quant_state", None) is not None


def dense_weight(module: Any) -> Tensor:
    """The weight of a linear map, (out, in); made anew at every call where it is kept in 4 bits."""
    if not is_four_bit(module):
        weight: Tensor = module.weight
        return weight
    from bitsandbytes.functional import dequantize_4bit

    dense: Tensor = dequantize_4bit(module.weight.data, module.weight.quant_state)
    return dense


def dense_dtype(module: Any) -> torch.dtype:
    """The dtype of `dense_weight`."""
    dtype: torch.dtype = module.weight.quant_state.dtype if is_four_bit(module) else module.weight.dtype
    return dtype
