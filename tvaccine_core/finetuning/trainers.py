"""The trainer of a fine-tuning run: plain, or that of the defence which steers the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch.utils.data import Dataset

from tvaccine_core.alignment.harmful import HarmfulBatches
from tvaccine_core.data.tokenise import Collator, Example
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.defences import Defence
from tvaccine_core.finetuning.defended_trainer import DefendedTrainer
from tvaccine_core.finetuning.lisa import BiStateRows, LisaTrainer
from tvaccine_core.finetuning.lisa_config import LisaConfig
from tvaccine_core.finetuning.panacea import PanaceaTrainer
from tvaccine_core.finetuning.panacea_config import PanaceaConfig
from tvaccine_core.finetuning.training_rows import TrainingRows
from tvaccine_core.finetuning.validation import ValidationCallback
from tvaccine_core.models.adapters import USER
from tvaccine_core.training.arguments import TrainingPlan, training_arguments
from tvaccine_core.training.metrics import METRICS_FILE, MetricsWriter
from tvaccine_core.training.order import ShuffledPasses


@dataclass(frozen=True)
class Course:
    """The order of a run. draws: the user's rows, and those mixed in, as they come up. dataset: all draws of the run.
    safe: the draws of alignment steps, or None."""

    plan: TrainingPlan
    draws: ShuffledPasses[Example]
    dataset: Dataset[Example]
    safe: ShuffledPasses[Example] | None = None


def plot_course(rows: TrainingRows, config: FineTuneConfig, defence: Defence) -> Course:
    """The steps of a run. What a defence adds comes on top: a user's row is seen as often as without it."""
    steps = user_steps(config, len(rows.user), len(rows.mixed))
    rule = defence.rule
    plan = make_plan(config, rule.total_steps(steps) if isinstance(rule, LisaConfig) else steps)
    per_step = plan.batch_size * plan.gradient_accumulation_steps
    draws = ShuffledPasses([*rows.user, *rows.mixed], steps * per_step, config.seed)
    if not isinstance(rule, LisaConfig):
        return Course(plan, draws, draws)
    safe = None
    if rule.needs_safe_rows:
        # Another seed than the user's rows have: the two orders are drawn independently.
        safe = ShuffledPasses(rows.safe, (plan.steps - steps) * per_step, config.seed + 1)
    return Course(plan, draws, BiStateRows(draws, safe, rule, per_step), safe)


def user_steps(config: FineTuneConfig, user: int, mixed: int) -> int:
    """Optimizer steps over `user` rows and `mixed` ones; max_steps is stretched by the share of the mixed."""
    if config.max_steps is None:
        return config.steps(user + mixed)
    return -(-config.max_steps * (user + mixed) // user)


def make_plan(config: FineTuneConfig, steps: int) -> TrainingPlan:
    """The plan of a run of so many optimizer steps."""
    return TrainingPlan(
        steps=steps,
        batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        schedule=config.schedule,
        warmup_ratio=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        save_every=config.save_every,
        seed=config.seed,
    )


def make_trainer(
    model: PeftModel,
    rows: TrainingRows,
    course: Course,
    defence: Defence,
    collator: Collator,
    out: Path,
    *,
    stage: str,
    held_out: list[Example],
    should_stop: Callable[[], bool],
) -> DefendedTrainer:
    """A trainer of the adapter "user", the only trainable one of `model`, ready to run."""
    plan, rule = course.plan, defence.rule
    metrics = MetricsWriter(out / METRICS_FILE, stage=stage, total=plan.steps)
    watching = [ValidationCallback(held_out, collator, plan.batch_size, metrics)] if held_out else []
    frame: dict[str, Any] = {
        "model": model,
        "adapter_name": USER,
        "args": training_arguments(plan, out / "checkpoints", use_cpu=model.device.type == "cpu"),
        "metrics": metrics,
        "should_stop": should_stop,
        "callbacks": watching,
        "train_dataset": course.dataset,
        "data_collator": collator,
        "kept_files": rows.kept_files,
    }
    if isinstance(rule, LisaConfig):
        return LisaTrainer(config=rule, **frame)
    if isinstance(rule, PanaceaConfig):
        harmful = HarmfulBatches(rows.harmful, collator, rule.harmful_batch, plan.seed + 1)
        return PanaceaTrainer(config=rule, harmful=harmful, **frame)
    return DefendedTrainer(**frame)
