"""A tiny model with adapters, and batches, for the tests of alignment."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from tests.tvaccine_core.alignment.added_gradient_runs import Build, builder
from tvaccine_core.alignment.efficient import EfficientScheme
from tvaccine_core.alignment.freezing import LayerAdapters, Window, find_adapters, open_window, release_all
from tvaccine_core.alignment.scheme import Scheme, StepReport
from tvaccine_core.models.adapters import lora_targets
from tvaccine_core.models.layers import Layers, find_layers


@dataclass
class Setting:
    """A model, its layers and adapters, and shortcuts to take steps with it."""

    model: nn.Module
    layers: Layers
    adapters: tuple[LayerAdapters, ...]

    def window(
        self, selected: Iterable[int], scope: str = "attention", mlp_below: bool = True, method: str = "t_vaccine"
    ) -> Window:
        return open_window(self.adapters, tuple(selected), method=method, freeze_scope=scope, mlp_below=mlp_below)

    def step(self, scheme: Scheme, inputs: dict[str, Tensor], window: Window) -> tuple[StepReport, dict[str, Tensor]]:
        """One step from empty gradients: its report, and the gradients by name."""
        self.model.zero_grad()
        scheme.open_window(window)
        report = scheme.step(inputs, torch.Tensor.backward)
        return report, self.gradients()

    def gradients(self) -> dict[str, Tensor]:
        return {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}

    def weights(self) -> dict[str, Tensor]:
        return {n: p.detach().clone() for n, p in self.model.named_parameters() if ".lora_" in n}

    def release(self) -> None:
        release_all(self.adapters)


def make_setting(
    family: str = "llama", *, layers: int = 4, hidden: int = 32, dtype: Any = torch.float64, dropout: float = 0.0
) -> Setting:
    from tiny_models import tiny_model

    base = tiny_model(family, layers=layers, hidden=hidden).to(dtype)
    if family == "opt":  # drops out by default
        for module in base.modules():
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = dropout
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=lora_targets(base))
    torch.manual_seed(1)
    model = get_peft_model(base, lora)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:  # B starts at zero, which would leave A without a gradient
            nn.init.normal_(parameter, std=0.05)
    if dtype == torch.float64:
        model.double()
    layers_found = find_layers(model)
    return Setting(model.train(), layers_found, find_adapters(model, layers_found))


def make_batch(rows: int = 3, length: int = 18, seed: int = 0, vocabulary: int = 300) -> dict[str, Tensor]:
    """Right-padded rows of different lengths, prompts and answers of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, vocabulary, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    labels = ids.clone()
    for row in range(rows):
        end = length - 3 * row
        labels[row, : 3 + 2 * row] = -100
        labels[row, end - 1 :] = -100  # the last real token is not supervised either
        mask[row, end:] = 0
        ids[row, end:] = 2
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.fixture(scope="session")
def setting() -> Callable[..., Setting]:
    return make_setting


@pytest.fixture(scope="session")
def batch() -> Callable[..., dict[str, Tensor]]:
    return make_batch


@pytest.fixture
def efficient() -> Iterable[Callable[..., EfficientScheme]]:
    """Makes efficient schemes and closes them."""
    made: list[EfficientScheme] = []

    def make(here: Setting, rho: float = 0.5, budget: float | None = None) -> EfficientScheme:
        made.append(EfficientScheme(here.model, here.layers, rho, budget))
        return made[-1]

    yield make
    for scheme in made:
        scheme.close()


@pytest.fixture
def make_trainer(tmp_path: Path) -> Build:
    """Build a trainer of Booster or TAR: make_trainer(config, name of its directory)."""
    return builder(tmp_path)
