"""A faster forward and backward for a linear map with LoRA adapters: y = W x + b + sum over k of scaling_k * B_k A_k x.

Same mathematics as PEFT's forward, with less work around the large products: the adapters' part is added into the
output in place and for all of them in one product, the scaling is applied to the (N, r) middle, the thin products are
laid out as (r, N) where matrix libraries are several times faster, and gradients of a frozen adapter (the vaccine
beside a user's) are not computed, nor is the input kept for them. In a bfloat16 model the adapters (float32) take part
in bfloat16, as under autocast; so they do where W is kept in 4 bits, and W is then made dense for each product and not
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tvaccine_core.models.quantization import dense_dtype, dense_weight, is_four_bit


class LoraKernels:
    """Puts the fast forward on every linear map of a PEFT model that qualifies; `remove` takes it away.

    A map qualifies if it is a plain `nn.Linear`, or one in 4 bits, whose active adapters are ordinary LoRA, unmerged
    and without dropout. Everything else keeps PEFT's own forward, also a map whose adapters are switched later.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules: list[nn.Module] = []
        for module in _qualifying(model):
            module.__dict__["forward"] = _fast_forward(module, module.forward)
            self._modules.append(module)

    def __len__(self) -> int:
        return len(self._modules)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The maps that have it."""
        return tuple(self._modules)

    def remove(self) -> None:
        """Give every map PEFT's forward back."""
        for module in self._modules:
            module.__dict__.pop("forward", None)
        self._modules.clear()


def _qualifying(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if not (hasattr(module, "lora_A") and hasattr(module, "base_layer")):
            continue
        base: Any = module.base_layer
        known = type(base) is nn.Linear or is_four_bit(base)
        if "forward" not in module.__dict__ and known and _is_plain(module):
            yield module


def _active(module: Any) -> tuple[str, ...]:
    """The adapters that take part now; none while adapters are switched off or merged."""
    if module.disable_adapters or module.merged:
        return ()
    return tuple(name for name in module.active_adapters if name in module.lora_A)


def _is_plain(module: Any) -> bool:
    names = _active(module)
    return bool(names) and all(_is_plain_adapter(module, name) for name in names)


def _is_plain_adapter(module: Any, name: str) -> bool:
    dropout = module.lora_dropout[name]
    masked = isinstance(dropout, nn.Dropout) and dropout.p > 0.0
    biased = module.lora_A[name].bias is not None or module.lora_B[name].bias is not None
    return not masked and not biased and name not in module.lora_variant


def _fast_forward(module: Any, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    names, base = _active(module), module.base_layer
    maps = [part for name in names for part in (module.lora_A[name], module.lora_B[name])]
    scalings = tuple(module.scaling[name] for name in names)

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        as_planned = x.dtype == dense_dtype(base) and _active(module) == names
        if not as_planned or torch.is_autocast_enabled(x.device.type):
            return original(x, *args, **kwargs)
        output: Tensor = _LoraLinear.apply(x, base, scalings, *(part.weight for part in maps))
        return output

    return forward


class _LoraLinear(torch.autograd.Function):
    """x: (..., k), base: the map of W (m, k) and b (m,), weights: of each adapter down A (r, k) and up B (m, r).

    W and b are taken as frozen. R is the sum of the adapters' ranks.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Any, scalings: tuple[float, ...], *weights: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        bias = None if base.bias is None else base.bias.to(x.dtype)
        output = functional.linear(flat, dense_weight(base), bias)
        middle = _joined(weights[0::2], x.dtype, 0) @ flat.t()  # (R, N)
        parts = _scale_(middle, scalings, weights)
        output.addmm_(middle.t(), _joined(weights[1::2], x.dtype, 1).t())
        needs_down, needs_up = ctx.needs_input_grad[3::2], ctx.needs_input_grad[4::2]
        kept = [part if needed else None for part, needed in zip(parts, needs_up, strict=True)]
        ctx.scalings, ctx.base, ctx.needs_down = scalings, base, needs_down
        ctx.save_for_backward(x if any(needs_down) else None, *kept, *weights)
        return output.view(*x.shape[:-1], output.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.scalings)
        x, *rest = ctx.saved_tensors
        middles, weights = rest[:count], rest[count:]
        flat = grad.reshape(-1, grad.shape[-1])
        thin = _joined(weights[1::2], grad.dtype, 1).t() @ flat.t()  # (R, N)
        parts = _scale_(thin, ctx.scalings, weights)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = flat @ dense_weight(ctx.base)
            grad_x.addmm_(thin.t(), _joined(weights[0::2], grad.dtype, 0))
            grad_x = grad_x.view(*grad.shape[:-1], grad_x.shape[-1])
        grads: list[Tensor | None] = []
        for part, middle, down, up, needed in zip(
            parts, middles, weights[0::2], weights[1::2], ctx.needs_down, strict=True
        ):
            grads.append((part @ x.reshape(-1, x.shape[-1])).to(down.dtype) if needed else None)
            grads.append(None if middle is None else (middle @ flat).t().to(up.dtype).contiguous())
        return grad_x, None, None, *grads


def _joined(weights: Sequence[Tensor], dtype: torch.dtype, along: int) -> Tensor:
    """The adapters' maps as one, in `dtype`."""
    found = [weight.to(dtype) for weight in weights]
    return found[0] if len(found) == 1 else torch.cat(found, dim=along)


def _scale_(middle: Tensor, scalings: Sequence[float], weights: Sequence[Tensor]) -> list[Tensor]:
    """Scales the rows (R, N) of each adapter in place; the rows of each, as views."""
    parts = list(middle.split([down.shape[0] for down in weights[0::2]]))
    for part, scaling in zip(parts, scalings, strict=True):
        part.mul_(scaling)
    return parts
