"""The settings of a fine-tuning run. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.quantizations import NOT_QUANTIZED, QUANTIZATIONS

SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup")
_CHOICES = {"schedule": SCHEDULES, "quantization": QUANTIZATIONS}
# Field -> lowest and highest value, both allowed.
_WHOLE: dict[str, tuple[int, int]] = {
    "epochs": (1, 50),
    "batch_size": (1, 256),
    "gradient_accumulation_steps": (1, 1024),
    "max_steps": (1, 10_000_000),
    "max_length": (8, 131_072),
    "lora_r": (1, 256),
    "lora_alpha": (1, 1024),
    "seed": (0, 2**31 - 1),
    "save_every": (1, 10_000_000),
    "validation_rows": (1, 100_000),
}
_NUMBERS: dict[str, tuple[float, float]] = {
    "learning_rate": (1e-9, 1.0),
    "lora_dropout": (0.0, 0.9),
    "warmup_ratio": (0.0, 1.0),
    "weight_decay": (0.0, 1.0),
    "max_grad_norm": (0.0, 1000.0),
}


@dataclass(frozen=True)
class FineTuneConfig:
    """Settings of one fine-tuning run; every field is checked when it is made.

    epochs: passes over the training rows, 1..50. max_steps: optimizer steps instead of passes, or None; steps on the
        provider's rows (see `defences`) come on top.
    batch_size: rows of one forward pass, 1..256. gradient_accumulation_steps: forward passes of one optimizer
        step, 1..1024; all supervised tokens of a step count alike.
    learning_rate: peak, 1e-9..1. schedule: linear, cosine, constant or constant_with_warmup, down to 0 for
    the
        first two. warmup_ratio: share of the steps with rising learning rate, 0..1.
    weight_decay: AdamW's, on the adapter, 0..1. max_grad_norm: global L2 clip, 0 for none.
    lora_r: rank, 1..256. lora_alpha: the adapter is scaled by lora_alpha / lora_r, 1..1024.
    lora_dropout: 0..0.9.
    max_length: longest row in tokens, 8..131072; a longer row is refused, never cut.
    seed: 0..2147483647; fixes the adapter's first weights, the order of rows and dropout.
    save_every: optimizer steps between checkpoints. validation_rows: at most this many rows of the validation
        file are measured, at every checkpoint.
    quantization: "4bit" trains on a base whose linear maps are kept in 4 bits (CUDA only), "none" on the base as it is;
        what is scored and released belongs to the base as published either way.
    """

    epochs: int = 3
    batch_size: int = 4
    learning_rate: float = 2e-4
    max_steps: int | None = None
    gradient_accumulation_steps: int = 1
    lora_r: int = 8
    lora_alpha: int = 8
    lora_dropout: float = 0.0
    max_length: int = 512
    seed: int = 42
    save_every: int = 20
    warmup_ratio: float = 0.1
    schedule: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    validation_rows: int = 64
    quantization: str = NOT_QUANTIZED

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (field.name == "max_steps" and value is None):
                _check(field.name, value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FineTuneConfig:
        """Builds from plain JSON values; raises InvalidRequest with `param` set to the field at fault."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                message = f"{name} is no setting of fine-tuning; use {', '.join(known)}."
                raise InvalidRequest(message, param=name)
        return cls(**{name: _as_whole(name, value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain JSON values; `from_dict` takes them back."""
        return dataclasses.asdict(self)

    def steps(self, rows: int) -> int:
        """Optimizer steps of a run over `rows` rows: max_steps, or the epochs' rows rounded up to whole
        steps."""
        if self.max_steps is not None:
            return self.max_steps
        return math.ceil(self.epochs * rows / (self.batch_size * self.gradient_accumulation_steps))


def _as_whole(name: str, value: Any) -> Any:
    """JSON has one number type: 8.0 is a good rank."""
    if name in _WHOLE and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _check(name: str, value: Any) -> None:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            message = f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r}."
            raise InvalidRequest(message, param=name)
        return
    whole = name in _WHOLE
    low, high = _WHOLE[name] if whole else _NUMBERS[name]
    kinds = int if whole else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise InvalidRequest(f"{name} must be {kind} from {low:g} to {high:g}, not {value!r}.", param=name)
