"""One alignment run: refusals in, a vaccine out."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import set_seed

from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.harmful import HarmfulBatches
from tvaccine_core.alignment.metrics import AlignmentMetrics
from tvaccine_core.alignment.trainer import TVaccineTrainer
from tvaccine_core.data.datasets import file_digest
from tvaccine_core.data.rows import read_rows_file, require_valid
from tvaccine_core.data.tokenise import Collator, Example, encode_rows
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.adapter_files import save_adapter
from tvaccine_core.models.adapter_records import write_record
from tvaccine_core.models.adapters import VACCINE, lora_config, train_only
from tvaccine_core.models.base import Base, load_base
from tvaccine_core.training.arguments import TrainingPlan, training_arguments
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE, read_metrics
from tvaccine_core.training.order import ShuffledPasses
from tvaccine_core.training.stop import never

STAGE = "vaccinating"


def align(
    base: str,
    alignment_file: Path,
    harmful_file: Path | None,
    out: Path,
    config: TVaccineConfig,
    *,
    resume_from: Path | None = None,
    should_stop: Callable[[], bool] = never,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Trains a vaccine for a base: a LoRA adapter that makes refusals survive later harmful fine-tuning.

    base: as for `load_base`. alignment_file: rows whose answers are refusals. harmful_file: rows with harmful answers
    that probes look at and nobody trains on; only opened where `config.needs_harmful_rows`.
    resume_from: a complete checkpoint of an earlier run with the same arguments.
    Leaves in `out`: adapter_model.safetensors, adapter_config.json, tvaccine.json, config.json, metrics.jsonl,
    checkpoints/ and, last, report.json.
    Raises InvalidRequest, InvalidTrainingFile naming every faulty row, UnknownBase, UnsupportedArchitecture, Stopped.
    """
    started = time.monotonic()
    if config.needs_harmful_rows and harmful_file is None:
        raise InvalidRequest(
            "T-Vaccine chooses its layers by a probe of harmful rows: give a file of them, or use the method "
            "'vaccine' or select 'uniform'.",
            param="harmful_file",
        )
    out.mkdir(parents=True, exist_ok=True)
    loaded = load_base(base, dtype=dtype, device=device)
    write_json_atomic(out / "config.json", {"base": loaded.name, "stage": STAGE, **config.to_dict()})
    trainer = _trainer(loaded, alignment_file, harmful_file, out, config, should_stop)
    trainer.run(resume_from)
    save_adapter(trainer.model, VACCINE, out, base_id=loaded.name)
    files = {"alignment": alignment_file}
    if config.needs_harmful_rows and harmful_file is not None:
        files["harmful"] = harmful_file
    write_record(
        out,
        kind="vaccine",
        base_name=loaded.name,
        base_digest=loaded.digest,
        seed=config.seed,
        method=config.method,
        config=config.to_dict(),
        digests={name: file_digest(path) for name, path in files.items()},
    )
    write_json_atomic(out / "report.json", _report(trainer, out, time.monotonic() - started))


def _trainer(
    base: Base,
    alignment_file: Path,
    harmful_file: Path | None,
    out: Path,
    config: TVaccineConfig,
    should_stop: Callable[[], bool],
) -> TVaccineTrainer:
    plan = _plan(config)
    collator = Collator(base.tokenizer.pad_token_id)
    examples = _examples(base, alignment_file, config)
    harmful = None
    if config.needs_harmful_rows and harmful_file is not None:
        # Another seed than the alignment rows have: the two orders are drawn independently.
        rows = _examples(base, harmful_file, config)
        harmful = HarmfulBatches(rows, collator, config.probe_batch, config.seed + 1)
    set_seed(config.seed)
    model = get_peft_model(base.model, lora_config(base.model, config), adapter_name=VACCINE)
    train_only(model, VACCINE)
    return TVaccineTrainer(
        config=config,
        harmful=harmful,
        model=model,
        adapter_name=VACCINE,
        args=training_arguments(plan, out / "checkpoints", use_cpu=base.model.device.type == "cpu"),
        metrics=AlignmentMetrics(out / METRICS_FILE, stage=STAGE, total=plan.steps),
        should_stop=should_stop,
        train_dataset=ShuffledPasses(examples, plan.draws, config.seed),
        data_collator=collator,
    )


def _examples(base: Base, file: Path, config: TVaccineConfig) -> list[Example]:
    rows = require_valid(read_rows_file(file, min_rows=1))
    return encode_rows(base.tokenizer, rows, config.max_length)


def _plan(config: TVaccineConfig) -> TrainingPlan:
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


def _report(trainer: TVaccineTrainer, out: Path, seconds: float) -> dict[str, Any]:
    """What a reader wants to know of a finished run; seconds and peak memory are this attempt's."""
    lines = [line for line in read_metrics(out / METRICS_FILE) if "loss" in line]
    last = lines[-max(1, len(lines) // 10) :]
    return {
        "method": trainer.config.method,
        "steps": trainer.state.global_step,
        "train_loss": sum(line["loss"] for line in lines) / len(lines),
        "final_loss": sum(line["loss"] for line in last) / len(last),
        "final_loss_perturbed": sum(line["loss_perturbed"] for line in last) / len(last),
        "probes": trainer.history["probes"],
        "draws": trainer.history["draws"],
        "seconds": round(seconds, 3),
        "peak_memory": _peak_memory(trainer.args.device),
    }


def _peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes: allocated and reserved on a GPU, else the process's resident set."""
    if device.type == "cuda":
        return {
            "allocated": torch.cuda.max_memory_allocated(device),
            "reserved": torch.cuda.max_memory_reserved(device),
        }
    return {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
