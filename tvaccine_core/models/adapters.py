"""Adapters on a base: the frozen vaccine, the user's adapter beside it, and their files.

The vaccine is never merged into the base weights: in bfloat16 merging loses part of it. Base, vaccine and
user adapter stay three things, and every linear map of a layer computes W x + s_v B_v A_v x + s_u B_u A_u x.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tvaccine_core.models.adapter_records import check_base
from tvaccine_core.models.combination import combine_adapters
from tvaccine_core.models.layers import find_layers

__all__ = [
    "USER",
    "VACCINE",
    "LoraSettings",
    "add_user_adapter",
    "add_vaccine",
    "combine_adapters",
    "load_combined",
    "lora_config",
    "lora_targets",
    "train_only",
]

VACCINE = "vaccine"
USER = "user"


class LoraSettings(Protocol):
    """What an adapter needs to know of a run's settings; W' = W + (lora_alpha / lora_r) B A."""

    @property
    def lora_r(self) -> int:
        """Rank."""

    @property
    def lora_alpha(self) -> int:
        """Scale, before division by the rank."""

    @property
    def lora_dropout(self) -> float:
        """Share of inputs to the adapter set to zero in training."""


def lora_targets(model: nn.Module) -> list[str]:
    """Last path components of all linear maps inside the decoder layers: attention and MLP, no output head.

    The same for a bare model and one that carries adapters.
    """
    names: set[str] = set()
    for layer in find_layers(model).layers:
        for path, module in layer.named_modules():
            if isinstance(module, nn.Linear | Conv1D) and ".lora_" not in path:
                names.add(path.removesuffix(".base_layer").rpartition(".")[2])
    return sorted(names)


def lora_config(model: nn.Module, settings: LoraSettings) -> LoraConfig:
    """A plain LoRA (B starts at zero) on all `lora_targets`."""
    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=lora_targets(model),
        bias="none",
        task_type="CAUSAL_LM",
    )


def add_vaccine(model: PreTrainedModel, vaccine_dir: Path, *, base_digest: str | None = None) -> PeftModel:
    """Puts a vaccine on a bare base, active and frozen, as adapter "vaccine".

    base_digest: the base's; raises BaseMismatch if the vaccine was made for other weights.
    """
    if base_digest is not None:
        check_base(vaccine_dir, base_digest)
    wrapped = PeftModel.from_pretrained(model, str(vaccine_dir), adapter_name=VACCINE, is_trainable=False)
    train_only(wrapped, None)
    return wrapped


def add_user_adapter(model: PreTrainedModel | PeftModel, settings: LoraSettings) -> PeftModel:
    """Puts a fresh adapter "user" on a base or a vaccinated model: the only one that trains; all are active.

    Its initial weights come from torch's global generator: seed that first.
    """
    if isinstance(model, PeftModel):
        model.add_adapter(USER, lora_config(model, settings))
        wrapped = model
    else:
        wrapped = get_peft_model(model, lora_config(model, settings), adapter_name=USER)
    train_only(wrapped, USER)
    return wrapped


def train_only(model: PeftModel, name: str | None) -> None:
    """Makes every adapter active and exactly the adapter `name` trainable (None: none of them).

    PEFT's own switches make whatever they activate trainable, so this has to follow them.
    """
    names = list(model.peft_config)
    model.base_model.set_adapter(names, inference_mode=True)
    if name is not None:
        model.base_model.set_requires_grad(name, True)


def load_combined(model: PreTrainedModel, adapter_dir: Path, *, base_digest: str | None = None) -> PeftModel:
    """Puts a released (combined) adapter on the stock base, frozen, in evaluation mode.

    Raises BaseMismatch if `base_digest` is given and the adapter was made for other weights.
    """
    if base_digest is not None:
        check_base(adapter_dir, base_digest)
    return PeftModel.from_pretrained(model, str(adapter_dir), is_trainable=False).eval()
