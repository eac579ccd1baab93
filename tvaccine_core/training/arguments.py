"""The Trainer's arguments as every run of ours sets them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments


@dataclass(frozen=True)
class TrainingPlan:
    """What differs between runs. steps: optimizer steps; batch_size: rows of one forward pass.

    schedule: a transformers scheduler name ("linear", "cosine", "constant", "constant_with_warmup").
    warmup_ratio: share of the steps with rising learning rate. save_every: steps between checkpoints.
    """

    steps: int
    batch_size: int
    learning_rate: float
    schedule: str
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    save_every: int
    seed: int
    gradient_accumulation_steps: int = 1

    @property
    def draws(self) -> int:
        """Rows seen in the whole run, repeats counted."""
        return self.steps * self.batch_size * self.gradient_accumulation_steps


def training_arguments(plan: TrainingPlan, checkpoints: Path, *, use_cpu: bool) -> TrainingArguments:
    """Arguments that keep the loop quiet, deterministic and free of work per step that nobody asked for.

    checkpoints: directory that receives checkpoint-N. One device is used, however many there are.
    """
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch_size,
        gradient_accumulation_steps=plan.gradient_accumulation_steps,
        learning_rate=plan.learning_rate,
        lr_scheduler_type=plan.schedule,
        warmup_steps=round(plan.steps * plan.warmup_ratio),
        weight_decay=plan.weight_decay,
        max_grad_norm=plan.max_grad_norm,
        optim="adamw_torch",
        save_strategy="steps",
        save_steps=plan.save_every,
        # The one before the last stays whole while the last is being written.
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=1,
        # A loss that is no number must be seen, not averaged away.
        logging_nan_inf_filter=False,
        train_sampling_strategy="sequential",
        dataloader_num_workers=0,
        dataloader_pin_memory=not use_cpu,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        log_level="error",
        seed=plan.seed,
        use_cpu=use_cpu,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # otherwise the Trainer splits every batch over all visible devices
    return arguments
