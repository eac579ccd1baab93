"""Combining vaccine and user adapter into one plain LoRA by concatenating their ranks.

With s = alpha / r of each, s_v B_v A_v + s_u B_u A_u = [s_v B_v, s_u B_u] [A_v; A_u]: an adapter of rank
r_v + r_u with lora_alpha equal to its rank (scale 1) that does to the stock base exactly what the two did. It
loads in PEFT, transformers and vLLM without anything of ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.adapter_files import WEIGHTS_FILE, write_config
from tvaccine_core.models.adapter_records import check_base, write_record
from tvaccine_core.models.digest import sha256_of

_A = ".lora_A.weight"
_B = ".lora_B.weight"
# Fields that may differ from a fresh LoraConfig without changing what the adapter computes, beside rank and
# alpha.
_HARMLESS = frozenset(
    {
        "task_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "exclude_modules",
        "fan_in_fan_out",
    }
)
_PLAIN_STARTS = (True, False, "gaussian")


@dataclass(frozen=True)
class _Adapter:
    """One adapter from disk. factors: module path -> (A (r, in), s B (out, r)) in float32."""

    config: LoraConfig
    factors: Mapping[str, tuple[Tensor, Tensor]]


def combine_adapters(
    vaccine_dir: Path | None, user_dir: Path | None, out: Path, *, base_id: str, base_digest: str
) -> None:
    """Writes to `out` one adapter for the stock base that equals the given ones together.

    One of the two may be None. Every module gets the same rank; where one adapter has no module, it counts as
    zero.
    base_id: the base's public name, which is all that the adapter's config says about the base.
    Raises BaseMismatch if one was made for other weights, InvalidRequest if one is no plain LoRA (rsLoRA,
    DoRA, modules_to_save, rank or alpha patterns, trained biases: the concatenation is wrong for those).
    """
    directories = {"vaccine": vaccine_dir, "user": user_dir}
    given = {name: path for name, path in directories.items() if path is not None}
    if not given:
        raise InvalidRequest("There is no adapter to combine; give a vaccine, a user adapter or both.")
    for path in given.values():
        check_base(path, base_digest)
    adapters = [_read(path) for path in given.values()]
    rank = sum(adapter.config.r for adapter in adapters)
    out.mkdir(parents=True, exist_ok=True)
    save_file(_concatenate(adapters), out / WEIGHTS_FILE, metadata={"format": "pt"})
    write_config(_config(adapters, rank), out, base_id)
    parts = {f"{name}_sha256": sha256_of([path / WEIGHTS_FILE]) for name, path in given.items()}
    write_record(out, kind="combined", base_name=base_id, base_digest=base_digest, rank=rank, **parts)


def _read(directory: Path) -> _Adapter:
    config = PeftConfig.from_pretrained(str(directory))
    _require_plain(config, directory)
    scale = config.lora_alpha / config.r
    state = load_file(directory / WEIGHTS_FILE)
    modules = {key.removesuffix(_A) for key in state if key.endswith(_A)}
    expected = {module + end for module in modules for end in (_A, _B)}
    if set(state) != expected or not modules:
        stray = sorted(set(state) ^ expected) or ["no LoRA tensors at all"]
        raise InvalidRequest(f"The adapter in {directory.name} is no plain LoRA ({stray[0]}); train a plain one.")
    factors = {m: (state[m + _A].float(), state[m + _B].float() * scale) for m in sorted(modules)}
    if any(a.shape[0] != config.r or b.shape[1] != config.r for a, b in factors.values()):
        raise InvalidRequest(
            f"The adapter in {directory.name} has other ranks than its config says; train a plain LoRA."
        )
    return _Adapter(config, factors)


def _require_plain(config: PeftConfig, directory: Path) -> None:
    if not isinstance(config, LoraConfig):
        raise InvalidRequest(f"The adapter in {directory.name} is no LoRA; train a plain LoRA.")
    fresh = LoraConfig()
    for field in dataclasses.fields(LoraConfig):
        value = getattr(config, field.name)
        if field.name == "init_lora_weights":
            special = value not in _PLAIN_STARTS
        elif field.name in _HARMLESS:
            special = False
        else:
            default = getattr(fresh, field.name)
            special = value != default and bool(value or default)
        if special:
            raise InvalidRequest(
                f"The adapter in {directory.name} uses {field.name}={value!r}, which cannot be combined "
                "exactly; train a plain LoRA.",
                param=field.name,
            )


def _concatenate(adapters: list[_Adapter]) -> dict[str, Tensor]:
    modules = sorted({module for adapter in adapters for module in adapter.factors})
    combined: dict[str, Tensor] = {}
    for module in modules:
        known = next(adapter.factors[module] for adapter in adapters if module in adapter.factors)
        pairs = [
            adapter.factors[module] if module in adapter.factors else _zeros(adapter.config.r, known)
            for adapter in adapters
        ]
        combined[module + _A] = torch.cat([a for a, _ in pairs], dim=0)
        combined[module + _B] = torch.cat([b for _, b in pairs], dim=1)
    return combined


def _zeros(rank: int, like: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    a, b = like
    return a.new_zeros(rank, a.shape[1]), b.new_zeros(b.shape[0], rank)


def _config(adapters: list[_Adapter], rank: int) -> LoraConfig:
    modules = {module for adapter in adapters for module in adapter.factors}
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=sorted({module.rpartition(".")[2] for module in modules}),
        fan_in_fan_out=adapters[0].config.fan_in_fan_out,
        task_type="CAUSAL_LM",
    )
