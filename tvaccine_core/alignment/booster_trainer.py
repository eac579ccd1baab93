"""Booster on transformers' Trainer; the mathematics is in `booster`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tvaccine_core.alignment.added_gradient import AddedGradientTrainer
from tvaccine_core.alignment.booster import attenuation
from tvaccine_core.alignment.booster_config import BoosterConfig
from tvaccine_core.alignment.dropout import forked_generators
from tvaccine_core.alignment.efficient import EfficientScheme
from tvaccine_core.alignment.harmful import HarmfulBatches
from tvaccine_core.alignment.scheme import Scheme
from tvaccine_core.alignment.two_pass import TwoPassScheme
from tvaccine_core.models.layers import Layers


class BoosterTrainer(AddedGradientTrainer):
    """Trains a vaccine with grad f + lambda * (grad h(w) - grad h(w')).

    harmful: batches of rows with harmful answers; one is read at every optimizer step and serves both gradients of h,
    with the same dropout masks.
    """

    config: BoosterConfig

    def __init__(self, *, config: BoosterConfig, harmful: HarmfulBatches, **kwargs: Any) -> None:
        super().__init__(config=config, streams={"harmful": harmful}, perturb=config.perturb_aware, **kwargs)

    def make_scheme(self, layers: Layers) -> Scheme:
        """See AddedGradientTrainer."""
        config = self.config
        if config.scheme == "two_pass":
            return TwoPassScheme(self.model, layers, config.rho)
        budget = None if config.memory_budget_gb is None else config.memory_budget_gb * 1e9
        return EfficientScheme(self.model, layers, config.rho, budget)

    def added_gradient(self, step: int) -> tuple[list[Tensor], Mapping[str, Tensor | float]]:
        """lambda * (grad h(w) - grad h(w')); h before and after the step to w', and ||grad h(w)||."""
        batch = self._prepare_inputs(self.streams["harmful"].next())
        masks = int(self.draws(step).integers(2**63))

        def harmful() -> Tensor:
            torch.manual_seed(masks)
            return self.backward_mean_loss(batch)

        with forked_generators(self.args.device):
            found = attenuation(self.parameters, harmful, self.config.alpha)
        for gradient in found.gradient:
            gradient.mul_(self.config.lamb)
        return found.gradient, {
            "harmful_loss": found.loss,
            "harmful_loss_after": found.loss_after,
            "harmful_gradient_norm": found.norm,
        }
