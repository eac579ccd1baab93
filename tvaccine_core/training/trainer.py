"""A transformers Trainer that trains one adapter of a PEFT model and can be stopped and resumed exactly."""
# ruff: noqa: ARG002 - the signatures are the Trainer's

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.adapter_files import load_adapter_weights, save_adapter
from tvaccine_core.models.adapters import train_only
from tvaccine_core.training.checkpoints import is_complete, open_checkpoint, seal_checkpoint
from tvaccine_core.training.loss import answer_loss
from tvaccine_core.training.metrics import MetricsWriter
from tvaccine_core.training.ranks import agreed, mean_over_ranks, ranks
from tvaccine_core.training.stop import Stopped, never


class StopCallback(TrainerCallback):
    """Polls `should_stop` after every step but the last; on true it has a checkpoint saved and ends the
    loop."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self.stopped = False

    def asked(self) -> bool:
        """Whether the run is asked to stop now."""
        return self._should_stop()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Asks once; a run at its last step is left to finish."""
        if state.global_step < state.max_steps and self.asked():
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True
        return control


class AdapterTrainer(Trainer):
    """Trains the adapter `adapter_name` of `model`; every other adapter stays active and frozen.

    Checkpoints hold that one adapter's weights (safetensors), the optimizer, the schedule, the random states
    and the metrics so far. Resuming restores exactly those: on a CPU the resumed run ends in the same bits as
    an uninterrupted one. Subclasses may override `training_step`, `compute_loss` and `step_metrics`.
    """

    def __init__(
        self,
        *,
        model: PeftModel,
        adapter_name: str,
        args: TrainingArguments,
        metrics: MetricsWriter,
        should_stop: Callable[[], bool] = never,
        callbacks: list[TrainerCallback] | None = None,
        **kwargs: Any,
    ) -> None:
        self.adapter_name = adapter_name
        self.metrics = metrics
        self._stop = StopCallback(agreed(should_stop, args.device))
        super().__init__(model=model, args=args, callbacks=[*(callbacks or []), self._stop], **kwargs)
        self.remove_callback(PrinterCallback)
        # Losses are divided by the supervised tokens of the whole accumulated batch, counted by the Trainer.
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = True
        self.loss_is_scaled_for_ga = True

    def run(self, resume_from: Path | None = None) -> None:
        """Trains to the end. Raises Stopped if asked to stop, InvalidRequest if the loss is no number.

        resume_from: a complete checkpoint directory of an earlier run with the same settings and rows.
        """
        if resume_from is not None and not is_complete(resume_from):
            raise InvalidRequest(
                f"The checkpoint {resume_from.name} was not saved to its end; resume from an earlier one.",
                param="resume_from",
            )
        if self.is_world_process_zero():
            self.metrics.restore_from(resume_from)
        train_only(self.model, self.adapter_name)
        if resume_from is None and self._stop.asked():
            raise Stopped(0, None)
        self.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
        if self._stop.stopped:
            raise Stopped(self.state.global_step, self._checkpoint_path())

    def step_metrics(self) -> Mapping[str, float]:
        """Numbers a subclass adds to the metrics of the step just taken, of this rank's rows."""
        return {}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Mean loss over the supervised tokens of the accumulated batch, those of all ranks together."""
        count = None if num_items_in_batch is None else int(num_items_in_batch)
        loss = answer_loss(model, inputs, count=count)
        # Gradients and logged losses are averaged over the ranks.
        return loss if count is None else loss * ranks()

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: it walks over all parameters at every step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Writes one line of metrics.jsonl a step."""
        if "loss" not in logs:
            return
        numbers = mean_over_ranks(self.step_metrics())
        if self.is_world_process_zero():
            self.metrics.write(self.state.global_step, {**logs, **numbers})
        if not torch.isfinite(torch.tensor(logs["loss"])):
            raise InvalidRequest(
                f"The training loss stopped being a number at step {self.state.global_step}; lower the learning rate.",
                code="training_diverged",
                param="learning_rate",
            )

    def _checkpoint_path(self) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Every rank adds its random state; the first one marks the checkpoint when all have.
        checkpoint, first = self._checkpoint_path(), self.is_world_process_zero()
        if first:
            open_checkpoint(checkpoint)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if first:
            self.metrics.keep_in(checkpoint)
            seal_checkpoint(checkpoint)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        # Only the trained adapter; nothing pickled.
        save_adapter(self.model, self.adapter_name, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # The Trainer's own version loads into the first active adapter, which is the vaccine.
        load_adapter_weights(self.model, self.adapter_name, Path(resume_from_checkpoint))
        train_only(self.model, self.adapter_name)
