"""Under every defence that steers the training, the user's adapter moves; the base and the vaccine keep every bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tvaccine_core.finetuning.defences import Defence
from tvaccine_core.finetuning.lisa_config import LisaConfig
from tvaccine_core.finetuning.panacea_config import PanaceaConfig

Build = Callable[..., Any]
SETTINGS = {"weight_decay": 0.1, "dtype": "float32"}


class Kept:
    """Copies of all parameters and buffers of a trainer's model."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._before = {name: tensor.detach().clone() for name, tensor in self._now().items()}

    def _now(self) -> dict[str, Tensor]:
        model = self._trainer.model
        return dict([*model.named_parameters(), *model.named_buffers()])

    def names(self, part: str) -> set[str]:
        return {name for name in self._before if part in name}

    def changed(self) -> set[str]:
        now = self._now()
        assert now.keys() == self._before.keys()
        return {name for name, tensor in now.items() if not torch.equal(tensor, self._before[name])}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lisa_moves_the_users_adapter_alone(build: Build, vaccine: Path, accumulate: int) -> None:
    defence = Defence(rule=LisaConfig(alignment_steps=2, user_steps=3, rho=0.5, warmup_share=0.0))
    trainer = build(defence, frozen=vaccine, gradient_accumulation_steps=accumulate, **SETTINGS).trainer
    kept = Kept(trainer)
    trainer.run()
    assert kept.names(".vaccine.")
    assert kept.changed() == kept.names(".user.")


@pytest.mark.parametrize("final_rows", [0, 6])
def test_panacea_moves_the_users_adapter_alone_in_training_and_at_its_end(
    build: Build, vaccine: Path, final_rows: int
) -> None:
    rule = PanaceaConfig(rho=0.5, lam=0.5, harmful_batch=3, final_rows=final_rows, loss_cap=1e6)
    trainer = build(Defence(rule=rule), frozen=vaccine, **SETTINGS).trainer
    kept = Kept(trainer)
    trainer.run()
    assert kept.names(".vaccine.")
    assert kept.changed() == kept.names(".user.")
    trained = Kept(trainer)
    trainer.perturb()
    assert trained.changed() == kept.changed() == kept.names(".user.")
