"""One alignment run: refusals in, a vaccine out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import get_peft_model
from transformers import set_seed

from tvaccine_core.alignment.booster_config import BoosterConfig
from tvaccine_core.alignment.booster_trainer import BoosterTrainer
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.finished import made_from
from tvaccine_core.alignment.methods import AlignmentRows, read_alignment_rows
from tvaccine_core.alignment.metrics import AlignmentMetrics
from tvaccine_core.alignment.readings import Reader, Readings
from tvaccine_core.alignment.repnoise_config import RepNoiseConfig
from tvaccine_core.alignment.repnoise_trainer import RepNoiseTrainer
from tvaccine_core.alignment.run_report import run_report
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.alignment.tar_config import TarConfig
from tvaccine_core.alignment.tar_trainer import TarTrainer
from tvaccine_core.alignment.trainer import TVaccineTrainer
from tvaccine_core.data.datasets import file_digest
from tvaccine_core.models.adapter_files import save_adapter
from tvaccine_core.models.adapter_records import write_record
from tvaccine_core.models.adapters import VACCINE, lora_config, train_only
from tvaccine_core.models.base import Base, load_base
from tvaccine_core.training.arguments import TrainingPlan, training_arguments
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE
from tvaccine_core.training.ranks import ranks
from tvaccine_core.training.stop import never
from tvaccine_core.training.trainer import AdapterTrainer

STAGE = "vaccinating"


def align(
    base: str,
    alignment_file: Path,
    harmful_file: Path | None,
    out: Path,
    config: AlignmentSettings,
    *,
    resume_from: Path | None = None,
    should_stop: Callable[[], bool] = never,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Trains a vaccine for a base: a LoRA adapter that makes refusals survive later harmful fine-tuning.

    base: as for `load_base`. alignment_file: rows whose answers are refusals. harmful_file: rows with harmful answers
    that the method looks at or works against; only opened where `config.needs_harmful_rows`.
    config: what `methods.alignment_config` gives; its class says which method trains.
    resume_from: a complete checkpoint of an earlier run with the same arguments.
    Leaves in `out`: adapter_model.safetensors, adapter_config.json, tvaccine.json, config.json, metrics.jsonl,
    checkpoints/ and, last, report.json.
    Raises InvalidRequest, InvalidTrainingFile naming every faulty row, UnknownBase, UnsupportedArchitecture, Stopped.
    """
    started = time.monotonic()
    rows = read_alignment_rows(config, alignment_file, harmful_file)
    out.mkdir(parents=True, exist_ok=True)
    loaded = load_base(base, dtype=dtype, device=device, quantization=config.quantization)
    write_json_atomic(out / "config.json", {"base": loaded.name, "stage": STAGE, **config.to_dict()})
    trainer = _trainer(loaded, rows, out, config, should_stop)
    trainer.run(resume_from)
    if not trainer.is_world_process_zero():
        return
    save_adapter(trainer.model, VACCINE, out, base_id=loaded.name)
    write_record(
        out,
        kind="vaccine",
        base_name=loaded.name,
        base_digest=loaded.digest,
        seed=config.seed,
        method=config.method,
        config=config.to_dict(),
        digests={name: file_digest(path) for name, path in made_from(config, alignment_file, harmful_file).items()},
    )
    seconds = time.monotonic() - started
    write_json_atomic(out / "report.json", run_report(trainer, config, out / METRICS_FILE, seconds))


def _method(config: AlignmentSettings) -> tuple[type[AdapterTrainer], Callable[[Reader, Any], Readings]]:
    """The trainer of the method that `config` belongs to, and what it reads."""
    known: dict[type[AlignmentSettings], tuple[type[AdapterTrainer], Callable[[Reader, Any], Readings]]] = {
        TVaccineConfig: (TVaccineTrainer, Reader.t_vaccine),
        RepNoiseConfig: (RepNoiseTrainer, Reader.repnoise),
        TarConfig: (TarTrainer, Reader.tar),
        BoosterConfig: (BoosterTrainer, Reader.booster),
    }
    return known[type(config)]


def _trainer(
    base: Base, rows: AlignmentRows, out: Path, config: AlignmentSettings, should_stop: Callable[[], bool]
) -> AdapterTrainer:
    plan = training_plan(config)
    trainer, read = _method(config)
    args = training_arguments(plan, out / "checkpoints", use_cpu=base.model.device.type == "cpu")
    readings = read(Reader(base.tokenizer, rows, plan.draws * ranks()), config)
    set_seed(config.seed)
    model = get_peft_model(base.model, lora_config(base.model, config), adapter_name=VACCINE)
    train_only(model, VACCINE)
    return trainer(
        config=config,
        model=model,
        adapter_name=VACCINE,
        args=args,
        metrics=AlignmentMetrics(out / METRICS_FILE, stage=STAGE, total=plan.steps),
        should_stop=should_stop,
        train_dataset=readings.rows,
        data_collator=readings.collate,
        **readings.streams,
    )


def training_plan(config: AlignmentSettings) -> TrainingPlan:
    """What the shared settings of every method say of its training loop."""
    return TrainingPlan(
        steps=config.steps,
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
