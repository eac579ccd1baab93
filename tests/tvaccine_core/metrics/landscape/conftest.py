"""Tiny models with and without adapters, and their outputs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

IDS = torch.tensor([[5, 17, 200, 33, 8], [9, 9, 120, 4, 77]])


@pytest.fixture
def adapted() -> Callable[..., Any]:
    """Builds a model that carries two active adapters with weights that do something."""

    def build(family: str = "llama", dtype: Any = torch.float64) -> Any:
        from tiny_models import tiny_model

        from tvaccine_core.finetuning.config import FineTuneConfig
        from tvaccine_core.models.adapters import add_user_adapter, lora_config, train_only

        torch.manual_seed(0)
        model = add_user_adapter(tiny_model(family).to(dtype), FineTuneConfig(lora_r=2, lora_alpha=4))
        model.add_adapter("vaccine", lora_config(model, FineTuneConfig(lora_r=3, lora_alpha=3)))
        train_only(model, None)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name:
                    weight.normal_(std=0.2)
        return model.to(dtype).eval()

    return build


@pytest.fixture
def logits() -> Callable[[Any], torch.Tensor]:
    def run(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model(IDS).logits.clone()

    return run


@pytest.fixture
def state() -> Callable[[Any], dict[str, torch.Tensor]]:
    """All parameters and buffers, copied."""

    def copy(model: Any) -> dict[str, torch.Tensor]:
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
        return {name: tensor.detach().clone() for name, tensor in named}

    return copy
