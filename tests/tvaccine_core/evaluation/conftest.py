"""Fixtures: loaded tiny bases, and random probes that fit them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def load_tiny(tiny_base: Callable[[str], Path]) -> Callable[..., Any]:
    """Load the tiny base of a family, in float32 on the CPU."""

    def load(family: str = "llama", dtype: str = "float32") -> Any:
        from tvaccine_core.models.base import load_base

        return load_base(str(tiny_base(family)), dtype=dtype, device="cpu")

    return load


@pytest.fixture
def random_probe() -> Callable[..., Any]:
    """A probe with random weights for a loaded base; bias +-100 makes it flag everything or nothing."""

    def build(base: Any, bias: float = 0.0) -> Any:
        import torch

        from tvaccine_core.evaluation.judge.features import FeatureSpec
        from tvaccine_core.evaluation.judge.probe import Probe

        spec = FeatureSpec((1, 2), ("mean", "end"), prompt_tokens=24, answer_tokens=24)
        weight = torch.randn(4 * base.model.config.hidden_size, generator=torch.Generator().manual_seed(0)) * 0.05
        return Probe(weight, bias, 0.5, spec, base.name, base.digest)

    return build


@pytest.fixture
def tiny_adapter(load_tiny: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """A directory with an adapter of the given kind and non-zero weights for the tiny llama base."""

    def build(kind: str = "combined", seed: int = 1) -> Path:
        import torch

        from tvaccine_core.finetuning.config import FineTuneConfig
        from tvaccine_core.models.adapter_files import save_adapter
        from tvaccine_core.models.adapter_records import write_record
        from tvaccine_core.models.adapters import USER, add_user_adapter

        base = load_tiny()
        model = add_user_adapter(base.model, FineTuneConfig(lora_r=2, lora_alpha=2))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
        folder = tmp_path / f"{kind}-{seed}"
        save_adapter(model, USER, folder, base_id=base.name)
        write_record(folder, kind=kind, base_name=base.name, base_digest=base.digest)
        return folder

    return build
