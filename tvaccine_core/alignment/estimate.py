"""What an alignment step will need of memory, from the model's configuration alone: no weights are read, nothing runs.

The parameters are counted on a model without storage. What a layer keeps for its backward is counted with tensors
that have shapes and no contents, by the code that counts it in a run. The estimate is for the largest batch that the
settings allow and the draw that needs most, and leaves out what the process and the device's runtime need themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM

from tvaccine_core.alignment.batch import SupervisedBatch
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.head import head_bytes
from tvaccine_core.alignment.interception import Interceptor, LayerCall
from tvaccine_core.alignment.lora_linear import LoraKernels
from tvaccine_core.alignment.memory import (
    TRAINED_COPIES,
    LayerBytes,
    MeasuringPass,
    held_storages,
    measure_layer,
    plan_recompute,
)
from tvaccine_core.alignment.passes import switch
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.errors import InvalidRequest, UnsupportedArchitecture
from tvaccine_core.models.adapters import lora_config, lora_targets
from tvaccine_core.models.layers import find_layers
from tvaccine_core.models.quantization import BYTES_PER_WEIGHT
from tvaccine_core.models.quantizations import FOUR_BIT

_MEASURED = 3  # layers of the model that is measured: the middle one has an ordinary layer on both sides


class _ImaginedPass(MeasuringPass):
    """Models make a mask where they cannot read that there is no padding."""

    def layer(self, call: LayerCall) -> Tensor:
        return super().layer(call.without_mask())


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one training step at its peak, by what holds them.

    weights: the base's. adapters: with gradients and optimizer state. activations: what the layers keep for the
    backward of the second pass, perturbations included. head: logits and loss. recomputed: layers that keep only their
    input.
    """

    layers: int
    rows: int
    tokens: int
    weights: float
    adapters: float
    activations: float
    head: float
    recomputed: int
    budget: float | None

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.adapters + self.activations + self.head

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, sizes in bytes."""
        return {**asdict(self), "total": self.total}

    def __str__(self) -> str:
        parts = {"weights": self.weights, "adapters": self.adapters, "activations": self.activations, "head": self.head}
        listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items())
        text = (
            f"A step of {self.rows} rows of {self.tokens} tokens needs at most about {self.total / 1e9:.2f} GB "
            f"({listed}), with {self.recomputed} of {self.layers} layers recomputed."
        )
        if self.budget is not None and self.total > self.budget:
            text += f" That is over the budget of {self.budget / 1e9:.2f} GB: use smaller or shorter batches."
        return text


def estimate_memory(model_config: Any, settings: AlignmentSettings, dtype: torch.dtype) -> MemoryEstimate:
    """The peak of a training step of the efficient scheme.

    model_config: as transformers reads it from config.json. dtype: of the base's weights that are not quantised.
    Raises InvalidRequest (param "method" or "scheme") for what takes other
    steps, and UnsupportedArchitecture.
    """
    if not isinstance(settings, TVaccineConfig):
        raise InvalidRequest(
            f"Memory is estimated for t_vaccine, vaccine and sft, not for {settings.method}.", param="method"
        )
    if settings.scheme != "efficient":
        raise InvalidRequest("Memory is estimated for the scheme efficient only.", param="scheme")
    four_bit = settings.quantization == FOUR_BIT
    outline = _outline(model_config, dtype)
    layers = len(find_layers(outline))
    weights, widest = _weight_bytes(outline, four_bit)
    trained = get_peft_model(outline, lora_config(outline, settings))
    adapters = sum(p.numel() * p.element_size() * TRAINED_COPIES for p in trained.parameters() if p.requires_grad)
    sizes = layer_bytes(model_config, settings, dtype)
    item = torch.empty((), dtype=dtype).element_size()
    vocabulary = int(model_config.get_text_config().vocab_size)
    # Every token but a row's first may be supervised. A weight in 4 bits is made dense for its product.
    head = head_bytes(vocabulary, sizes.rows * (sizes.length - 1), item, whole=_caps_logits(model_config))
    head += widest * item if four_bit else 0
    budget = None if settings.memory_budget_gb is None else settings.memory_budget_gb * 1e9
    room = float("inf") if budget is None else budget - weights - adapters - head
    plan = plan_recompute(sizes, layers, room, _greediest_draw(settings, layers), 0)
    return MemoryEstimate(
        layers=layers,
        rows=sizes.rows,
        tokens=sizes.length,
        weights=weights,
        adapters=adapters,
        activations=plan.stored,
        head=head,
        recomputed=len(plan.recompute.second),
        budget=budget,
    )


def estimate_for(model: Any, settings: AlignmentSettings) -> MemoryEstimate:
    """The same for a base that is loaded already, with adapters or without; its weights are only looked at.

    Raises as `estimate_memory` does.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return estimate_memory(base.config, settings, base.get_input_embeddings().weight.dtype)


def layer_bytes(model_config: Any, settings: AlignmentSettings, dtype: torch.dtype) -> LayerBytes:
    """What one layer stores for a batch of `batch_size` rows of `max_length` tokens.

    Raises UnsupportedArchitecture for a model whose forward depends on the contents of tensors.
    """
    shortened = copy.deepcopy(model_config)
    shortened.num_hidden_layers = _MEASURED
    if getattr(shortened, "layer_types", None):
        shortened.layer_types = shortened.layer_types[:_MEASURED]
    base = _outline(shortened, dtype)
    model = get_peft_model(base, lora_config(base, settings)).train()
    rows, length = settings.batch_size, settings.max_length
    with imagined(model):
        layers = find_layers(model)
        interceptor, kernels = Interceptor(layers), LoraKernels(model)
        positions = torch.zeros(1, dtype=torch.int64)
        batch = SupervisedBatch(torch.zeros(rows, length, dtype=torch.int64), None, positions, positions)
        try:
            run = _runner(model, interceptor, batch)
            return measure_layer(batch, _MEASURED, held_storages(model), run, _ImaginedPass)
        except RuntimeError as error:
            raise UnsupportedArchitecture(
                f"The memory of {model_config.model_type} models cannot be estimated without running them ({error}); "
                "start a run with a memory_budget_gb instead."
            ) from error
        finally:
            kernels.remove()
            interceptor.remove()


def _runner(model: Any, interceptor: Interceptor, batch: SupervisedBatch) -> Callable[[MeasuringPass, bool], None]:
    adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def run(measuring: MeasuringPass, trains: bool) -> None:
        switch(adapters, trains)
        with interceptor.using(measuring), torch.no_grad():
            model(**batch.model_inputs(), use_cache=False)

    return run


@contextmanager
def imagined(model: nn.Module) -> Iterator[None]:
    """Inside the with block, tensors have shapes and a place but no contents, those of the model among them."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for name, held in module.named_parameters(recurse=False):
                empty = torch.empty(held.shape, dtype=held.dtype)
                module._parameters[name] = nn.Parameter(empty, requires_grad=held.requires_grad)
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
        yield


def _outline(model_config: Any, dtype: torch.dtype) -> Any:
    """The model without storage, all weights frozen."""
    plain = copy.deepcopy(model_config)
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config  # counted apart
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(plain, dtype=dtype).requires_grad_(False)


def _weight_bytes(model: Any, four_bit: bool) -> tuple[float, int]:
    """Bytes of the base's weights, and how many numbers the largest linear map of a layer holds."""
    targets = set(lora_targets(model))
    inside = [
        module.weight
        for layer in find_layers(model).layers
        for path, module in layer.named_modules()
        if path.rpartition(".")[2] in targets
    ]
    total = float(sum(p.numel() * p.element_size() for p in model.parameters()))
    if four_bit:
        total -= sum(weight.numel() * (weight.element_size() - BYTES_PER_WEIGHT) for weight in inside)
    return total, max(weight.numel() for weight in inside)


def _greediest_draw(settings: TVaccineConfig, layers: int) -> tuple[int, ...]:
    """A draw that needs as much memory as any: drawn layers are never recomputed, and the lowest is the first."""
    if settings.method == "sft":
        return ()
    return tuple(range(layers if settings.method == "vaccine" else min(settings.gamma, layers)))


def _caps_logits(model_config: Any) -> bool:
    """Whether the model works on its logits, so that they exist as a whole."""
    return bool(getattr(model_config.get_text_config(), "final_logit_softcapping", None))
