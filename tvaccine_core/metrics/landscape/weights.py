"""The weights of a loaded model that a landscape moves, and puts back bit for bit.

With adapters on the model, "merged" means the weights that the adapters and the base make together, W + sum of s B A.
They are never merged for it: alpha d is added to W while the adapters stay where they are, which is the same map,
loses nothing in low precision, and leaves the model at alpha = 0 exactly as it is. Only the length of d is taken from
the merged weight. Buffers (rotary tables) are no parameters and stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.metrics.landscape.config import KINDS
from tvaccine_core.metrics.landscape.directions import Direction

Move = tuple[Direction, float]
"""A direction, and how far along it."""

_WRAPPER = "base_model.model."
_WRAPPED = ".base_layer."


class PerturbableWeights:
    """The tensors of a model that a landscape moves, under the names that they have on the bare model.

    kind: "merged" or "adapter" (see LandscapeConfig). Copies of the originals lie on the CPU; the model must not be
    trained while this is in use. Raises InvalidRequest for quantised weights and for a model without adapters where
    these are to be moved.
    """

    def __init__(self, model: nn.Module, kind: str = "merged") -> None:
        if kind not in KINDS:
            raise InvalidRequest(f"weights must be one of {', '.join(KINDS)}, not {kind!r}.", param="weights")
        self._model = model
        self._kind = kind
        # named_parameters gives tied tensors once: they are one tensor and move once.
        chosen = [(path, p) for path, p in model.named_parameters() if (".lora_" in path) == (kind == "adapter")]
        if not chosen:
            raise InvalidRequest("The model carries no adapter to move; use weights 'merged'.", param="weights")
        for path, parameter in chosen:
            if not parameter.is_floating_point():
                raise InvalidRequest(f"{path} is quantised; load the model in bfloat16 or float32.", param="model")
        self._parameters = {_bare_name(path): parameter for path, parameter in chosen}
        self._originals = {name: p.detach().to("cpu", copy=True) for name, p in self._parameters.items()}
        modules = {path: model.get_submodule(path.rpartition(".")[0]) for path, _ in chosen}
        self._norms = {_bare_name(path) for path, module in modules.items() if _is_norm(path, module)}
        self._adapted = {} if kind == "adapter" else _adapted(model, [path for path, _ in chosen])

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors' names on the bare model, in the model's order."""
        return tuple(self._parameters)

    def value(self, name: str) -> Tensor:
        """theta: the tensor with its active adapters added, in float32, in float64 for a float32 or float64 model."""
        parameter = self._parameters[name]
        original = self._originals[name].to(parameter.device)
        wide = original.to(torch.float32 if original.dtype.itemsize < 4 else torch.float64)
        module = self._adapted.get(name)
        if module is None or module.disable_adapters or module.merged:
            return wide
        for adapter in module.active_adapters:
            if adapter in module.lora_A or adapter in module.lora_embedding_A:
                wide = wide + module.get_delta_weight(adapter).to(wide)
        return wide

    def values(self) -> dict[str, Tensor]:
        """Every theta on the CPU, in the model's own dtype: what another model can be moved towards."""
        return {name: self.value(name).to("cpu", self._originals[name].dtype) for name in self.names}

    @contextmanager
    def moved(self, moves: Sequence[Move]) -> Iterator[None]:
        """Inside the with block the model is theta + sum of alpha d; afterwards it is what it was, bit for bit.

        Every point is computed from the originals, so that rounding does not add up from point to point.
        """
        try:
            with torch.no_grad():
                self._write([(direction, alpha) for direction, alpha in moves if alpha != 0.0])
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(self._originals[name])

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of all parameters and their names: another model has another one."""
        total = hashlib.sha256(f"{self._kind}\n{sorted(self._active())}\n".encode())
        for name, parameter in self._model.named_parameters():
            data = parameter.detach().to("cpu").contiguous()
            total.update(f"{name} {data.dtype} {tuple(data.shape)}\n".encode())
            total.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
        return total.hexdigest()

    def _write(self, moves: Sequence[Move]) -> None:
        if not moves:
            return
        for name, parameter in self._parameters.items():
            theta = self.value(name)
            steps = [(direction.step(name, theta, name in self._norms), alpha) for direction, alpha in moves]
            change = [step * alpha for step, alpha in steps if step is not None]
            if change:
                original = self._originals[name].to(parameter.device)
                parameter.copy_(original.to(theta.dtype) + sum(change[1:], change[0]))

    def _active(self) -> set[tuple[str, float]]:
        """Adapters that take part in the model's answers, and their scales."""
        layers = [m for m in self._model.modules() if isinstance(m, LoraLayer) and not m.disable_adapters]
        return {(name, layer.scaling[name]) for layer in layers for name in layer.active_adapters}


def _bare_name(path: str) -> str:
    return path.removeprefix(_WRAPPER).replace(_WRAPPED, ".")


def _is_norm(path: str, module: nn.Module) -> bool:
    """By name, as the paper does it, and by class: some models call the layer `ln_1`."""
    return "norm" in path.lower() or "norm" in type(module).__name__.lower()


def _adapted(model: nn.Module, paths: Sequence[str]) -> dict[str, LoraLayer]:
    """For each weight under an adapter its LoRA layer. A LoRA layer's bias has no adapter."""
    ends = f"{_WRAPPED}weight"
    layers = {path: model.get_submodule(path.removesuffix(ends)) for path in paths if path.endswith(ends)}
    return {_bare_name(path): layer for path, layer in layers.items() if isinstance(layer, LoraLayer)}
