"""The loss on rows that are not trained on, measured whenever a checkpoint is due."""
# ruff: noqa: ARG002 - the signatures are the Trainer's

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tvaccine_core.data.tokenise import Collator, Example
from tvaccine_core.training.loss import answer_loss
from tvaccine_core.training.metrics import MetricsWriter


def validation_loss(model: PeftModel, examples: Sequence[Example], collator: Collator, batch_size: int) -> float:
    """Mean cross-entropy over all supervised tokens of the examples, without dropout; leaves the mode as it
    was."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    total, tokens = 0.0, 0
    try:
        with torch.no_grad():
            for start in range(0, len(examples), batch_size):
                part = examples[start : start + batch_size]
                batch = {name: tensor.to(device) for name, tensor in collator(part).items()}
                total += float(answer_loss(model, batch, count=1))
                tokens += int((batch["labels"][:, 1:] != -100).sum())
    finally:
        model.train(training)
    return total / tokens


class ValidationCallback(TrainerCallback):
    """Writes {"valid_loss"} to the metrics at every checkpoint and at the last step."""

    def __init__(
        self, examples: Sequence[Example], collator: Collator, batch_size: int, metrics: MetricsWriter
    ) -> None:
        self._examples = examples
        self._collator = collator
        self._batch_size = batch_size
        self._metrics = metrics

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Measures before the checkpoint is written, so that the checkpoint's metrics hold the result."""
        if state.global_step % args.save_steps == 0 or state.global_step >= state.max_steps:
            loss = validation_loss(model, self._examples, self._collator, self._batch_size)
            self._metrics.write(state.global_step, {"valid_loss": loss})
