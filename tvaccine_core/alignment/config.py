"""The settings of an alignment run (T-Vaccine, Vaccine or plain supervised alignment). Torch-free."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvaccine_core.errors import InvalidRequest

_CHOICES: dict[str, tuple[str, ...]] = {
    "method": ("t_vaccine", "vaccine", "sft"),
    "freeze_scope": ("attention", "layer"),
    "select": ("weighted", "topk", "uniform"),
    "scheme": ("efficient", "two_pass", "published"),
    "schedule": ("cosine", "linear", "constant", "constant_with_warmup"),
}
_COUNTS = (
    "gamma",
    "probe_every",
    "draw_every",
    "probe_batch",
    "steps",
    "batch_size",
    "max_length",
    "lora_r",
    "lora_alpha",
    "save_every",
    "gradient_accumulation_steps",
)
# Field -> (lowest, highest) value, both allowed. Counts must be at least 1.
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_COUNTS, (1, 10**9)),
    "rho": (0.0, 1e4),
    "learning_rate": (1e-9, 1.0),
    "weight_decay": (0.0, 1.0),
    "warmup_ratio": (0.0, 1.0),
    "lora_dropout": (0.0, 0.9),
    "max_grad_norm": (0.0, 1e4),
    "memory_budget_gb": (0.01, 1e5),
    "max_length": (8, 10**6),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True)
class TVaccineConfig:
    """Settings of one alignment run.

    method: "t_vaccine" (perturb and train drawn layers), "vaccine" (perturb every layer, freeze nothing; gamma is
        ignored), "sft" (no perturbation; rho and gamma are ignored).
    rho: L2 norm of the perturbation of all drawn layers of a batch together. It is shared by all rows, tokens and
        drawn layers, so what suits one model size does not suit another: match the ratio of perturbation to
        attention output, not rho. 3 is the published value for 7B models, far too large for a 135M one.
    gamma: how many layers are drawn. draw_every (J): optimizer steps between draws. probe_every (K): optimizer
        steps between probes of the harmful set. probe_batch: rows of one probe (the published code uses 1).
    freeze_scope: what is frozen in a layer that is not drawn. "attention": the adapters of its attention module
        (MLP adapters train, as in the published code); "layer": all of its adapters.
    mlp_below: with freeze_scope "attention", whether MLP adapters *below the lowest drawn layer* train too. True
        is the plain meaning of "MLP adapters train everywhere". False stops the backward pass at the lowest drawn
        layer and runs what is below without a graph: it is cheaper when that layer is high, and it is what the
        published code does by way of re-entrant checkpointing.
    select: "weighted" (drawn with the probe's probabilities), "topk" (the gamma largest), "uniform".
    scheme: "efficient", "two_pass" (the plain reference implementation, same numbers), "published" (eager
        attention, re-entrant checkpointing, full logits: for benchmarks only).
    memory_budget_gb: upper bound, in 10^9 bytes, that weights, adapters with their optimizer state, and stored
        activations of a training step should stay under; layers are recomputed as far as needed. None: recompute
        nothing. Only for the efficient scheme.
    steps: optimizer steps. batch_size: rows a micro-batch; each micro-batch gets its own perturbation, gradients
        of gradient_accumulation_steps micro-batches are averaged. max_length: tokens a row at most.
    warmup_ratio: share of the steps with rising learning rate. save_every: steps between checkpoints.
    lora_dropout above 0 uses the same masks in both passes, so that the perturbation belongs to the network it is
        applied to.
    """

    method: str = "t_vaccine"
    rho: float = 0.3
    gamma: int = 8
    probe_every: int = 200
    draw_every: int = 20
    probe_batch: int = 8
    freeze_scope: str = "attention"
    mlp_below: bool = True
    select: str = "weighted"
    steps: int = 80
    batch_size: int = 4
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup_ratio: float = 0.1
    schedule: str = "cosine"
    max_grad_norm: float = 1.0
    max_length: int = 256
    lora_r: int = 8
    lora_alpha: int = 8
    lora_dropout: float = 0.0
    seed: int = 42
    scheme: str = "efficient"
    memory_budget_gb: float | None = None
    save_every: int = 20

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name))

    @property
    def needs_harmful_rows(self) -> bool:
        """Whether the run probes a harmful set at all."""
        return self.method == "t_vaccine" and self.select != "uniform"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TVaccineConfig:
        """Build from plain JSON values; raises InvalidRequest with `param` set to the field at fault."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise InvalidRequest(
                    f"'{name}' is not a setting of alignment. Use one of: {', '.join(sorted(known))}.", param=name
                )
        return cls(**{name: _as_declared(known[name].default, value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain JSON values; `from_dict` takes them back."""
        return dataclasses.asdict(self)


def _as_declared(default: Any, value: Any) -> Any:
    """JSON has one number type: 3 is a good rho and 8.0 a good gamma."""
    if isinstance(value, bool):
        return value
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if isinstance(default, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _check(name: str, value: Any) -> None:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise InvalidRequest(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r}.", param=name)
    elif name == "mlp_below":
        if not isinstance(value, bool):
            raise InvalidRequest(f"{name} must be true or false, not {value!r}.", param=name)
    elif not (name == "memory_budget_gb" and value is None):
        _check_number(name, value)


def _check_number(name: str, value: Any) -> None:
    low, high = _RANGES[name]
    whole = name in _COUNTS or name == "seed"
    kinds = int if whole else (int, float)
    right_kind = isinstance(value, kinds) and not isinstance(value, bool)
    if not right_kind or not math.isfinite(value) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise InvalidRequest(f"{name} must be {kind} from {low:g} to {high:g}, not {value!r}.", param=name)
