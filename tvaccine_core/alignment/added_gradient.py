"""Alignment with a further gradient: an update is g_a + v, g_a of the loss on refusals and v of a method's own making.

v is worked out once an optimizer step, before its first micro-batch, and added to the accumulated g_a after its last:
how many micro-batches make up a step does not change its weight. The Trainer clips the sum.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tvaccine_core.alignment.adapter_weights import add_gradients, global_norm, take_gradients
from tvaccine_core.alignment.freezing import find_adapters, open_window
from tvaccine_core.alignment.harmful import HarmfulBatches
from tvaccine_core.alignment.scheme import Inputs, Scheme, StepReport
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.alignment.supervision import parts, token_share
from tvaccine_core.alignment.trainer import STATE_FILE
from tvaccine_core.models.layers import Layers, find_layers, keep_all_layers
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.ranks import mean_over_ranks_becomes_sum, ranks, sum_gradients
from tvaccine_core.training.trainer import AdapterTrainer


class AddedGradientTrainer(AdapterTrainer, ABC):
    """Trains a vaccine with g_a + v.

    streams: the sequences of harmful rows by name; how far each was read is in `alignment_state.json` of every
    checkpoint. All else that is drawn at random is a function of the seed and the step (`draws`), so a resumed run
    goes on with the same. v leaves the run's own random numbers alone: with v = 0 the run is plain alignment, bit for
    bit, dropout or not. Under `torchrun` every rank works on alignment micro-batches of its own, and all of them work
    out the same v, from the same harmful rows.
    """

    def __init__(
        self, *, config: AlignmentSettings, streams: Mapping[str, HarmfulBatches], perturb: bool = False, **kwargs: Any
    ) -> None:
        """perturb: whether g_a is taken under a perturbation of every layer (that the scheme brings)."""
        super().__init__(**kwargs)
        keep_all_layers(self.model)
        layers = find_layers(self.model)
        adapters = find_adapters(self.model, layers)
        self.config = config
        self.streams = dict(streams)
        self.plain = open_window(adapters, (), method="sft", freeze_scope="layer", mlp_below=True)
        every = range(len(layers)) if perturb else ()
        self.window = open_window(adapters, every, method="vaccine", freeze_scope="layer", mlp_below=True)
        self.parameters = self.plain.trainable
        self.scheme = self.make_scheme(layers)
        self._entered: int | None = None
        self._added: list[Tensor] = []
        self._reports: list[StepReport] = []
        self._numbers: dict[str, Tensor | float] = {}

    @abstractmethod
    def make_scheme(self, layers: Layers) -> Scheme:
        """What computes gradients; asked once, when the model has its adapters."""

    @abstractmethod
    def added_gradient(self, step: int) -> tuple[list[Tensor], Mapping[str, Tensor | float]]:
        """v for the optimizer step `step`, counted from 0, one tensor a parameter, and numbers for the metrics.

        Leaves the parameters as they were and without gradients.
        """

    def run(self, resume_from: Path | None = None) -> None:
        """See AdapterTrainer; leaves the model with its own forwards."""
        try:
            super().run(resume_from)
        finally:
            self.scheme.close()

    def report(self) -> dict[str, Any]:
        """For the run's report: how many rows of each stream were read, repeats counted."""
        return {"rows_read": {name: stream.taken for name, stream in self.streams.items()}}

    def draws(self, step: int) -> np.random.Generator:
        """The random numbers of one optimizer step."""
        return np.random.Generator(np.random.PCG64([self.config.seed, step]))

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One micro-batch: leaves its part of g_a in the adapters' gradients, after the last one g_a + v."""
        model.train()
        prepared: dict[str, Tensor] = self._prepare_inputs(inputs)
        if self.state.global_step != self._entered:
            self._enter(self.state.global_step)
        share = token_share(prepared["labels"], num_items_in_batch)
        report = self.scheme.step(prepared, partial(self._backward, share=share))
        self._reports.append(report)
        if self.accelerator.sync_gradients:
            self._add()
        return mean_over_ranks_becomes_sum(report.loss_perturbed * share)

    def backward_mean_loss(self, inputs: Inputs) -> Tensor:
        """Add the gradient of the mean loss over a whole batch, without a perturbation, to .grad; gives that loss.

        At most `config.batch_size` rows are worked on at a time.
        """
        self.scheme.open_window(self.plain)
        total = torch.zeros((), device=self.args.device)
        for part, share in parts(inputs, self.config.batch_size):
            total = total + share * self.scheme.step(part, partial(self._backward, share=share)).loss
        return total

    def step_metrics(self) -> Mapping[str, float]:
        """||g_a||, ||v||, the method's numbers; under a perturbation also both losses and ||eps||."""
        numbers = {name: float(value) for name, value in self._numbers.items()}
        if self.window.selected:
            reports = [report.values() for report in self._reports]
            names = ("loss", "loss_perturbed", "eps_norm", "eps_norm_effective")
            numbers |= {name: fmean(report[name] for report in reports) for name in names}
        return numbers

    def _enter(self, step: int) -> None:
        self._entered = step
        self._reports.clear()
        found, numbers = self.added_gradient(step)
        self._added = self._same_on_all_ranks(found)
        self._numbers = dict(numbers)
        self.scheme.open_window(self.window)

    def _same_on_all_ranks(self, gradient: list[Tensor]) -> list[Tensor]:
        """The mean over the ranks: theirs differ where a device does not compute the same bits every time."""
        if ranks() == 1:
            return gradient
        add_gradients(self.parameters, [tensor / ranks() for tensor in gradient])
        sum_gradients(self.parameters)
        return take_gradients(self.parameters)

    def _add(self) -> None:
        sum_gradients(self.parameters)
        present = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        self._numbers["alignment_gradient_norm"] = global_norm(present)
        self._numbers["added_gradient_norm"] = global_norm(self._added)
        add_gradients(self.parameters, self._added)
        self._added = []

    def _backward(self, loss: Tensor, share: float) -> None:
        self.accelerator.backward(loss * share)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)
        taken = {name: stream.taken for name, stream in self.streams.items()}
        write_json_atomic(Path(output_dir or self.args.output_dir) / STATE_FILE, {"taken": taken})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = json.loads((Path(resume_from_checkpoint) / STATE_FILE).read_text(encoding="utf-8"))
        for name, stream in self.streams.items():
            stream.taken = state["taken"][name]
