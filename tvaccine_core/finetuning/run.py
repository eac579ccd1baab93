"""One fine-tuning run: a user's rows, on a vaccinated base, into an adapter for the stock base."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback, set_seed

from tvaccine_core.data.rows import read_rows_file, require_valid
from tvaccine_core.data.tokenise import Collator, Example, encode_rows
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.validation import ValidationCallback
from tvaccine_core.models.adapter_files import save_adapter
from tvaccine_core.models.adapter_records import write_record
from tvaccine_core.models.adapters import USER, add_user_adapter, add_vaccine, combine_adapters
from tvaccine_core.models.base import Base, load_base
from tvaccine_core.training.arguments import TrainingPlan, training_arguments
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE, MetricsWriter, read_metrics
from tvaccine_core.training.order import ShuffledPasses
from tvaccine_core.training.stop import never
from tvaccine_core.training.trainer import AdapterTrainer

STAGE = "fine_tuning"


def fine_tune(
    base: str,
    vaccine_dir: Path | None,
    training_file: Path,
    out: Path,
    config: FineTuneConfig,
    *,
    validation_file: Path | None = None,
    resume_from: Path | None = None,
    should_stop: Callable[[], bool] = never,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Trains a user adapter beside the frozen vaccine and combines the two.

    base: as for `load_base`. vaccine_dir: the base's vaccine; None trains on the stock base.
    resume_from: a complete checkpoint of an earlier run with the same arguments.
    Leaves in `out`: config.json, metrics.jsonl, checkpoints/, user/ (the user adapter alone, useless without
    the vaccine), combined/ (the adapter to score and release) and, last, report.json.
    Raises InvalidTrainingFile naming every faulty row, BaseMismatch, UnknownBase, UnsupportedArchitecture,
    InvalidRequest (the loss stopped being a number), Stopped.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    loaded = load_base(base, dtype=dtype, device=device)
    write_json_atomic(out / "config.json", {"base": loaded.name, "stage": STAGE, **config.to_dict()})
    rows = require_valid(read_rows_file(training_file, min_rows=1))
    examples = encode_rows(loaded.tokenizer, rows, config.max_length)
    held_out: list[Example] = []
    if validation_file is not None:
        checked = require_valid(read_rows_file(validation_file, min_rows=1))
        held_out = encode_rows(loaded.tokenizer, checked[: config.validation_rows], config.max_length)
    trainer, draws = _trainer(loaded, vaccine_dir, examples, held_out, out, config, should_stop)
    trainer.run(resume_from)
    _save(trainer, loaded, vaccine_dir, out, config)
    write_json_atomic(out / "report.json", _report(trainer, draws, out, time.monotonic() - started))


def _trainer(
    base: Base,
    vaccine_dir: Path | None,
    examples: list[Example],
    held_out: list[Example],
    out: Path,
    config: FineTuneConfig,
    should_stop: Callable[[], bool],
) -> tuple[AdapterTrainer, ShuffledPasses[Example]]:
    plan = _plan(config, len(examples))
    draws = ShuffledPasses(examples, plan.draws, config.seed)
    collator = Collator(base.tokenizer.pad_token_id)
    metrics = MetricsWriter(out / METRICS_FILE, stage=STAGE, total=plan.steps)
    callbacks: list[TrainerCallback] = []
    if held_out:
        callbacks.append(ValidationCallback(held_out, collator, config.batch_size, metrics))
    set_seed(config.seed)
    model = base.model
    if vaccine_dir is not None:
        model = add_vaccine(model, vaccine_dir, base_digest=base.digest)
    trainer = AdapterTrainer(
        model=add_user_adapter(model, config),
        adapter_name=USER,
        args=training_arguments(plan, out / "checkpoints", use_cpu=base.model.device.type == "cpu"),
        metrics=metrics,
        should_stop=should_stop,
        callbacks=callbacks,
        train_dataset=draws,
        data_collator=collator,
    )
    return trainer, draws


def _plan(config: FineTuneConfig, rows: int) -> TrainingPlan:
    return TrainingPlan(
        steps=config.steps(rows),
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


def _save(trainer: AdapterTrainer, base: Base, vaccine_dir: Path | None, out: Path, config: FineTuneConfig) -> None:
    user = out / "user"
    save_adapter(trainer.model, USER, user, base_id=base.name)
    write_record(user, kind="user", base_name=base.name, base_digest=base.digest, seed=config.seed)
    combine_adapters(vaccine_dir, user, out / "combined", base_id=base.name, base_digest=base.digest)


def _report(
    trainer: AdapterTrainer, draws: ShuffledPasses[Example], out: Path, seconds: float
) -> dict[str, float | int | None]:
    """steps, trained_tokens (all tokens of all rows seen, repeats counted), train_loss (mean over the steps),
    valid_loss (last measured, or None) and the seconds that this attempt took.
    """
    lines = read_metrics(out / METRICS_FILE)
    losses = [line["loss"] for line in lines if "loss" in line]
    valid = [line["valid_loss"] for line in lines if "valid_loss" in line]
    return {
        "steps": trainer.state.global_step,
        "trained_tokens": sum(len(draws[place].input_ids) for place in range(len(draws))),
        "train_loss": sum(losses) / len(losses),
        "valid_loss": valid[-1] if valid else None,
        "seconds": round(seconds, 3),
    }
