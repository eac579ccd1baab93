"""The settings of a repair. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from tvaccine_core.alignment.settings import choice, number, whole
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.finetuning.checked_settings import CheckedSettings
from tvaccine_core.finetuning.config import SCHEDULES, FineTuneConfig
from tvaccine_core.finetuning.panacea_config import PanaceaConfig


@dataclass(frozen=True, kw_only=True)
class RepairConfig(CheckedSettings):
    """Settings of one repair: some more steps on the user's rows with Panacea's objective, then its perturbation.

    steps: optimizer steps, 1..10000000. batch_size: rows of one forward pass, 1..256. gradient_accumulation_steps:
        forward passes of one optimizer step, 1..1024.
    learning_rate: peak, 1e-9..1. schedule: linear, cosine, constant or constant_with_warmup. warmup_ratio: share of
        the steps with rising learning rate, 0..1. weight_decay: AdamW's, 0..1. max_grad_norm: 0..1000, 0 for no clip.
    max_length: longest row in tokens, 8..131072. seed: 0..2147483647; the order of rows and dropout. save_every:
        optimizer steps between checkpoints.
    panacea: what the perturbation is told (see PanaceaConfig).
    """

    subject: ClassVar[str] = "repair"

    steps: int = whole(20, 1, 10_000_000)
    batch_size: int = whole(4, 1, 256)
    gradient_accumulation_steps: int = whole(1, 1, 1024)
    learning_rate: float = number(2e-5, 1e-9, 1.0)
    schedule: str = choice("constant", SCHEDULES)
    warmup_ratio: float = number(0.0, 0.0, 1.0)
    weight_decay: float = number(0.0, 0.0, 1.0)
    max_grad_norm: float = number(1.0, 0.0, 1000.0)
    max_length: int = whole(512, 8, 131_072)
    seed: int = whole(42, 0, 2**31 - 1)
    save_every: int = whole(20, 1, 10_000_000)
    panacea: PanaceaConfig = field(default_factory=PanaceaConfig)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """As CheckedSettings; `panacea` is a mapping of its own."""
        given = dict(values)
        inner = given.pop("panacea", {})
        if not isinstance(inner, Mapping):
            raise InvalidRequest('panacea must be an object, such as {"rho": 1}.', param="panacea")
        outer = super().from_dict(given)
        return cls(**{**outer.__dict__, "panacea": PanaceaConfig.from_dict(inner)})

    def as_fine_tuning(self, *, lora_r: int, lora_alpha: int, lora_dropout: float) -> FineTuneConfig:
        """The same steps as settings of a fine-tuning run of an adapter with this rank, scale and dropout."""
        own = {name: value for name, value in self.to_dict().items() if name not in ("steps", "panacea")}
        shape: dict[str, Any] = {"lora_r": lora_r, "lora_alpha": lora_alpha, "lora_dropout": lora_dropout}
        return FineTuneConfig(max_steps=self.steps, **own, **shape)
