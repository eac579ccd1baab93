"""A faster forward and backward for a linear map with one LoRA adapter: y = W x + b + scaling * B A x.

Same mathematics as PEFT's forward, with less work around the large products: the adapter's part is added into the
output in place, the scaling is applied to the (N, r) middle, the thin products are laid out as (r, N) where matrix
libraries are several times faster, and gradients of a frozen adapter are not computed, nor is the input kept for
them. In a bfloat16 model the adapter (float32) takes part in bfloat16, as under autocast; so it does where W is kept in
4 bits, and W is then made dense for each product and not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tvaccine_core.models.quantization import dense_dtype, dense_weight, is_four_bit


class LoraKernels:
    """Puts the fast forward on every linear map of a PEFT model that qualifies; `remove` takes it away.

    A map qualifies if it is a plain `nn.Linear`, or one in 4 bits, with exactly one active, unmerged, ordinary LoRA
    adapter without dropout. Everything else keeps PEFT's own forward.
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


def _is_plain(module: Any) -> bool:
    active = [name for name in module.active_adapters if name in module.lora_A]
    if len(active) != 1 or module.merged or module.disable_adapters:
        return False
    name = active[0]
    dropout = module.lora_dropout[name]
    masked = isinstance(dropout, nn.Dropout) and dropout.p > 0.0
    biased = module.lora_A[name].bias is not None or module.lora_B[name].bias is not None
    return not masked and not biased and name not in module.lora_variant


def _fast_forward(module: Any, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    name = next(name for name in module.active_adapters if name in module.lora_A)
    base, down, up, scaling = module.base_layer, module.lora_A[name], module.lora_B[name], module.scaling[name]

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.dtype != dense_dtype(base) or torch.is_autocast_enabled(x.device.type):
            return original(x, *args, **kwargs)
        output: Tensor = _LoraLinear.apply(x, base, down.weight, up.weight, scaling)
        return output

    return forward


class _LoraLinear(torch.autograd.Function):
    """x: (..., k), base: the map of W (m, k) and b (m,), down A: (r, k), up B: (m, r). W and b are taken as frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Any, down: Tensor, up: Tensor, scaling: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        bias = None if base.bias is None else base.bias.to(x.dtype)
        output = functional.linear(flat, dense_weight(base), bias)
        middle = down.to(x.dtype) @ flat.t()  # (r, N)
        middle.mul_(scaling)
        output.addmm_(middle.t(), up.to(x.dtype).t())
        ctx.scaling, ctx.base = scaling, base
        needs_down, needs_up = ctx.needs_input_grad[2], ctx.needs_input_grad[3]
        ctx.save_for_backward(down, up, x if needs_down else None, middle if needs_up else None)
        return output.view(*x.shape[:-1], output.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        down, up, x, middle = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_down = grad_up = None
        thin = up.to(grad.dtype).t() @ flat.t()  # (r, N)
        thin.mul_(ctx.scaling)
        if ctx.needs_input_grad[0]:
            grad_x = flat @ dense_weight(ctx.base)
            grad_x.addmm_(thin.t(), down.to(grad.dtype))
            grad_x = grad_x.view(*grad.shape[:-1], grad_x.shape[-1])
        if x is not None:
            grad_down = (thin @ x.reshape(-1, x.shape[-1])).to(down.dtype)
        if middle is not None:
            grad_up = (middle @ flat).t().to(up.dtype)
        return grad_x, None, grad_down, grad_up, None
