"""RepNoise on transformers' Trainer; the mathematics is in `repnoise`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tvaccine_core.alignment.repnoise_config import RepNoiseConfig
from tvaccine_core.alignment.repnoise_objective import RepNoiseObjective
from tvaccine_core.alignment.scheme import Inputs
from tvaccine_core.models.layers import find_layers, keep_all_layers
from tvaccine_core.training.ranks import mean_over_ranks_becomes_sum, ranks, sum_gradients
from tvaccine_core.training.trainer import AdapterTrainer


class RepNoiseTrainer(AdapterTrainer):
    """Trains a vaccine on batches of a `PairCollator`.

    The loss has a logarithm in it and does not fall apart by tokens: the losses of accumulated micro-batches are
    averaged evenly, under `torchrun` those of all ranks. A micro-batch without a differing token has no noise and no
    ascent term, and where nothing at all is to be learned the step changes no weight. The noise is a function of the
    seed, the step and the micro-batch: a resumed run goes on with the same.
    """

    def __init__(self, *, config: RepNoiseConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        keep_all_layers(self.model)
        self.config = config
        self.objective = RepNoiseObjective(self.model, find_layers(self.model), config)
        self._trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._entered: int | None = None
        self._place = 0
        self._terms: dict[str, list[float]] = {}

    def run(self, resume_from: Path | None = None) -> None:
        """See AdapterTrainer; leaves the model with its own forwards."""
        try:
            super().run(resume_from)
        finally:
            self.objective.close()

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One micro-batch: leaves its part of the gradient in the adapters, after the last one that of all ranks."""
        del num_items_in_batch
        model.train()
        batch: dict[str, dict[str, Tensor]] = self._prepare_inputs(inputs)
        self._enter(self.state.global_step)
        share = 1.0 / (self.current_gradient_accumulation_steps * ranks())
        loss = self._backward_both(batch["safe"], batch["harmful"], share)
        self._place += 1
        if self.accelerator.sync_gradients:
            sum_gradients(self._trained)
        return mean_over_ranks_becomes_sum(loss * share)

    def _enter(self, step: int) -> None:
        if step != self._entered:
            self._entered, self._place, self._terms = step, 0, {}

    def _backward_both(self, safe: Inputs, harmful: Inputs, share: float) -> Tensor:
        """The loss of a micro-batch; one backward after the other, so that one graph is gone before the next."""
        loss = torch.zeros((), device=self.args.device)
        stability = self.objective.stability(safe, pairs=len(harmful["labels"]))
        if stability is not None:
            self.accelerator.backward(stability * share)
            loss = loss + stability.detach()
            self._note("loss_safe", stability.detach())
        defence = self.objective.defence(harmful, self._noise_seed())
        if defence is not None:
            self.accelerator.backward(defence.loss * share)
            loss = loss + defence.loss.detach()
            self._note("loss_noise", defence.noise)
            self._note("loss_harmful", defence.harmful)
        return loss

    def _noise_seed(self) -> int:
        # The ranks take the micro-batches of a step in turns.
        place = self._place * ranks() + self.args.process_index
        draws = np.random.Generator(np.random.PCG64([self.config.seed, self.state.global_step, place]))
        return int(draws.integers(2**63))

    def step_metrics(self) -> Mapping[str, float]:
        """L_safe, L_noise and L_harm, each a mean over the micro-batches that have it."""
        return {name: fmean(values) for name, values in self._terms.items()}

    def _note(self, name: str, value: Tensor) -> None:
        self._terms.setdefault(name, []).append(float(value))
