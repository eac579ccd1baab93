"""T-Vaccine on transformers' Trainer: probe, draw, freeze, and two passes in place of one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from tvaccine_core.alignment.coming import ComingBatches
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.efficient import EfficientScheme
from tvaccine_core.alignment.estimate import estimate_for
from tvaccine_core.alignment.freezing import Window, find_adapters, open_window, release_all
from tvaccine_core.alignment.harmful import HarmfulBatches
from tvaccine_core.alignment.published import PublishedScheme
from tvaccine_core.alignment.scheme import Scheme, StepReport
from tvaccine_core.alignment.selection import LayerSchedule
from tvaccine_core.alignment.supervision import token_share
from tvaccine_core.alignment.two_pass import TwoPassScheme
from tvaccine_core.errors import UnsupportedArchitecture
from tvaccine_core.models.layers import Layers, find_layers, keep_all_layers
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.ranks import (
    from_first_rank,
    mean_over_ranks_becomes_sum,
    part_of_sum,
    sum_gradients,
)
from tvaccine_core.training.trainer import AdapterTrainer

_LOG = logging.getLogger(__name__)

STATE_FILE = "alignment_state.json"


def make_scheme(model: nn.Module, layers: Layers, config: TVaccineConfig) -> Scheme:
    """The scheme that `config` names, for a model whose adapters are all trainable yet."""
    rho = 0.0 if config.method == "sft" else config.rho
    if config.scheme == "two_pass":
        return TwoPassScheme(model, layers, rho)
    if config.scheme == "published":
        return PublishedScheme(model, layers, rho)
    budget = None if config.memory_budget_gb is None else config.memory_budget_gb * 1e9
    return EfficientScheme(model, layers, rho, budget, fold_frozen=config.fold_frozen)


class TVaccineTrainer(AdapterTrainer):
    """Trains a vaccine. harmful: what probes look at; needed where `config.needs_harmful_rows`.

    A step starts with the probe and the draw that fall on it. Everything that a resumed run needs to go on with the
    same probabilities, layers and rows is in `alignment_state.json` of each checkpoint. Each micro-batch is perturbed
    on its own, with a perturbation of norm rho; the gradients of all micro-batches of a step are averaged by supervised
    tokens. Under `torchrun` every rank works on micro-batches of its own, as if they were further ones of the same
    step: each is perturbed by itself, all ranks draw the same layers, and gradients are averaged over all of them.
    """

    def __init__(
        self,
        *,
        config: TVaccineConfig,
        harmful: HarmfulBatches | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        keep_all_layers(self.model)
        layers = find_layers(self.model)
        self.config = config
        self.harmful = harmful
        self.adapters = find_adapters(self.model, layers)
        self.schedule = LayerSchedule(config, len(layers))
        self.scheme = make_scheme(self.model, layers, config)
        self.window: Window | None = None
        self.history: dict[str, list[dict[str, Any]]] = {"probes": [], "draws": []}
        self._coming = ComingBatches(config.prefix_batches)
        self._foreseen = 0
        self._entered: int | None = None
        self._reports: list[StepReport] = []

    def run(self, resume_from: Path | None = None) -> None:
        """See AdapterTrainer; leaves the model with its own forwards and every adapter trainable.

        With a memory budget the log tells beforehand what a step will need.
        """
        if self.config.memory_budget_gb is not None and self.config.scheme == "efficient":
            _log_estimate(self.model, self.config)
        try:
            super().run(resume_from)
        finally:
            self.scheme.close()
            release_all(self.adapters)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One micro-batch: leaves the gradient of its perturbed loss in the trainable adapters.

        After the last micro-batch of an optimizer step the gradients are those of all ranks together.
        """
        model.train()
        prepared: dict[str, Tensor] = self._prepare_inputs(inputs)
        self._enter(self.state.global_step)
        self._look_ahead(prepared)
        share = token_share(prepared["labels"], num_items_in_batch)
        trainable = () if self.window is None else self.window.trainable
        part = part_of_sum(share, trainable)
        report = self.scheme.step(prepared, lambda loss: self.accelerator.backward(loss * part))
        self._reports.append(report)
        if self.accelerator.sync_gradients:
            sum_gradients(trainable)
        return mean_over_ranks_becomes_sum(report.loss_perturbed * share)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The micro-batches of one optimizer step, and their supervised tokens on all ranks."""
        batches, count = super().get_batch_samples(self._coming.through(epoch_iterator), num_batches, device)
        self._coming.start_step(batches)
        return batches, count

    def step_metrics(self) -> Mapping[str, Any]:
        """Loss before the perturbation and under it, N, ||eps||, the lowest drawn layer; p and draws when new."""
        reports = [report.values() for report in self._reports]
        numbers: dict[str, Any] = {name: fmean(report[name] for report in reports) for name in reports[0]}
        if self.window is not None and self.window.selected:
            numbers["lowest_layer"] = self.window.selected[0]
        for kind, name in (("probes", "p"), ("draws", "selected")):
            if self.history[kind] and self.history[kind][-1]["step"] == self._entered:
                numbers[name] = self.history[kind][-1][name]
        return numbers

    def _enter(self, step: int) -> None:
        """What comes before the first micro-batch of an optimizer step."""
        if step == self._entered:
            return
        if self._entered is None:  # preparing the model for several devices may have replaced its parameters
            self.adapters = find_adapters(self.model, self.scheme.layers)
        self._entered = step
        self._reports.clear()
        if self.schedule.probe_due(step):
            self._probe(step)
        if self.schedule.draw_due(step):
            self.schedule.draw()
            self.history["draws"].append({"step": step, "selected": list(self.schedule.selected or ())})
            self.window = None
        if self.window is None:
            self._open_window()

    def _probe(self, step: int) -> None:
        if self.harmful is None:
            raise ValueError("a probe is due, but the trainer was given no harmful rows")
        batch = self._prepare_inputs(self.harmful.next())
        norms = from_first_rank(self.scheme.probe(batch, self.config.batch_size), self.args.device)
        self.schedule.record_probe(norms)
        self.history["probes"].append({"step": step, "p": self.schedule.p, "norms": list(norms)})

    def _look_ahead(self, inputs: Mapping[str, Tensor]) -> None:
        """Once for several micro-batches, show the scheme what comes before the next draw."""
        if self._coming.depth == 1:
            return
        if self._foreseen == 0:
            place = len(self._reports)
            steps = self.config.draw_every - self.state.global_step % self.config.draw_every
            left = steps * self.args.gradient_accumulation_steps - place - 1
            upcoming = [inputs, *map(self._prepare_inputs, self._coming.after(place, left))]
            self.scheme.look_ahead(upcoming)
            self._foreseen = len(upcoming)
        self._foreseen -= 1

    def _open_window(self) -> None:
        self._foreseen = 0
        self.window = open_window(
            self.adapters,
            self.schedule.selected or (),
            method=self.config.method,
            freeze_scope=self.config.freeze_scope,
            mlp_below=self.config.mlp_below,
        )
        self.scheme.open_window(self.window)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)
        state = {
            "schedule": self.schedule.state(),
            "history": self.history,
            "harmful_taken": None if self.harmful is None else self.harmful.taken,
        }
        write_json_atomic(Path(output_dir or self.args.output_dir) / STATE_FILE, state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = json.loads((Path(resume_from_checkpoint) / STATE_FILE).read_text(encoding="utf-8"))
        self.schedule.restore(state["schedule"])
        self.history = state["history"]
        if self.harmful is not None:
            self.harmful.taken = state["harmful_taken"]


def _log_estimate(model: nn.Module, config: TVaccineConfig) -> None:
    try:
        estimate = estimate_for(model, config)
    except UnsupportedArchitecture as error:
        _LOG.info("%s", error.message)
        return
    over = estimate.budget is not None and estimate.total > estimate.budget
    _LOG.log(logging.WARNING if over else logging.INFO, "%s", estimate)
