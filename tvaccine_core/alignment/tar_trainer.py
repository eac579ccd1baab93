"""TAR on transformers' Trainer; the mathematics is in `tar`."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from tvaccine_core.alignment.added_gradient import AddedGradientTrainer
from tvaccine_core.alignment.dropout import forked_generators
from tvaccine_core.alignment.efficient import EfficientScheme
from tvaccine_core.alignment.harmful import HarmfulBatches
from tvaccine_core.alignment.scheme import Inputs, Scheme
from tvaccine_core.alignment.supervision import parts
from tvaccine_core.alignment.tar import Attack, AttackPlan, is_bounded, mean_entropy, simulate_attack
from tvaccine_core.alignment.tar_config import TarConfig
from tvaccine_core.alignment.two_pass import TwoPassScheme
from tvaccine_core.models.layers import Layers
from tvaccine_core.training.answer_logits import answer_logits


class TarTrainer(AddedGradientTrainer):
    """Trains a vaccine with g_a + v, v the gradients of the resistance that simulated attackers leave.

    harmful: what attackers train on, a batch for each of their steps. heldout: other harmful rows, a batch for each
    attacker. The attackers' moves and optimizers are gone when the optimizer step is taken.
    """

    config: TarConfig

    def __init__(self, *, config: TarConfig, harmful: HarmfulBatches, heldout: HarmfulBatches, **kwargs: Any) -> None:
        super().__init__(config=config, streams={"harmful": harmful, "heldout": heldout}, **kwargs)
        growth = config.lambda_s if config.weights == "growing" else None
        self.plan = AttackPlan(config.inner_steps, config.measure_every, growth)
        self.vocabulary = int(self.model.config.get_text_config().vocab_size)

    def make_scheme(self, layers: Layers) -> Scheme:
        """See AddedGradientTrainer."""
        return (TwoPassScheme if self.config.scheme == "two_pass" else EfficientScheme)(self.model, layers, 0.0)

    def added_gradient(self, step: int) -> tuple[list[Tensor], Mapping[str, Tensor | float]]:
        """v, or zeros where the entropy is above the bound."""
        draws = self.draws(step)
        rates: list[float] = draws.choice(self.config.attacker_learning_rates, self.config.attacks).tolist()
        buffer = [torch.zeros_like(parameter) for parameter in self.parameters]
        with forked_generators(self.args.device):
            torch.manual_seed(int(draws.integers(2**63)))
            attacks = [self._attack(rate, buffer) for rate in rates]
        entropy = torch.stack([attack.entropy for attack in attacks]).mean()
        bounded = bool(is_bounded(entropy, self.vocabulary, self.config.entropy_bound))
        if bounded:
            for tensor in buffer:
                tensor.zero_()
        resistance = torch.stack([attack.resistance for attack in attacks]).mean()
        return buffer, {
            "harmful_loss": torch.stack([attack.first_loss for attack in attacks]).mean(),
            "harmful_loss_after": torch.stack([attack.last_loss for attack in attacks]).mean(),
            "tr_loss": self.config.lambda_tr * resistance,
            "entropy": entropy,
            "bound_hit": float(bounded),
            "attacker_learning_rate": fmean(rates),
        }

    def _attack(self, learning_rate: float, buffer: list[Tensor]) -> Attack:
        unseen = self._prepare_inputs(self.streams["heldout"].next())
        return simulate_attack(
            self.parameters,
            self._attacker(learning_rate),
            lambda: self.backward_mean_loss(self._prepare_inputs(self.streams["harmful"].next())),
            lambda: self._backward_resistance(unseen),
            self.plan,
            buffer,
            self.config.lambda_tr / self.config.attacks,
        )

    def _attacker(self, learning_rate: float) -> torch.optim.Optimizer:
        if self.config.attacker == "sgd":
            return torch.optim.SGD(self.parameters, lr=learning_rate)
        return torch.optim.AdamW(self.parameters, lr=learning_rate, weight_decay=0.0)

    def _backward_resistance(self, inputs: Inputs) -> Tensor:
        """Add the gradient of minus the mean entropy at the answer positions of a batch to .grad; gives that loss."""
        total = torch.zeros((), device=self.args.device)
        for part, share in parts(inputs, self.config.batch_size):
            loss = -share * mean_entropy(answer_logits(self.model, part)[0])
            self.accelerator.backward(loss)
            total = total + loss.detach()
        return total
