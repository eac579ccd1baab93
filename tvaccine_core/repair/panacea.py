"""Repair of a finished user adapter with Panacea (Wang et al., arXiv 2501.18100), for one whose score failed.

The adapter is trained a little further on the user's rows under Panacea's objective, whatever it was trained with
before, and the perturbation is added. The method's own way has the objective in force from the first step of
fine-tuning; there `fine_tune` does the same with the defence "panacea".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel, set_seed

from tvaccine_core.data.rows import read_rows_file, require_valid
from tvaccine_core.data.tokenise import Collator, encode_rows
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.defences import Defence
from tvaccine_core.finetuning.provider_rows import HARMFUL, digests, encode_provider_rows, read_provider_rows
from tvaccine_core.finetuning.results import save_adapters, training_report
from tvaccine_core.finetuning.trainers import make_trainer, plot_course
from tvaccine_core.finetuning.training_rows import TrainingRows
from tvaccine_core.models.adapter_files import load_adapter_weights
from tvaccine_core.models.adapter_records import check_base
from tvaccine_core.models.adapters import USER, add_user_adapter, add_vaccine
from tvaccine_core.models.base import Base, load_base
from tvaccine_core.repair.config import RepairConfig
from tvaccine_core.repair.earlier import earlier_record
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.stop import never

STAGE = "repairing"


def repair(
    base: str,
    vaccine_dir: Path | None,
    user_adapter_dir: Path,
    training_file: Path,
    harmful_file: Path,
    out: Path,
    config: RepairConfig,
    *,
    evaluation_file: Path | None = None,
    resume_from: Path | None = None,
    should_stop: Callable[[], bool] = never,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Continues a user adapter for `config.steps` steps with Panacea's objective and adds its perturbation.

    base, vaccine_dir, training_file, evaluation_file, resume_from: as for `fine_tune`; vaccine_dir must be the vaccine
    that the adapter was trained beside. user_adapter_dir: the `user/` of a finished run. harmful_file: rows with
    harmful answers, which nobody is taught.
    Leaves in `out`: config.json, metrics.jsonl, checkpoints/, user/ and combined/ (repaired), unperturbed/ (the user
    adapter after the steps, without eps) and, last, report.json. Nothing is written to user_adapter_dir.
    Raises as `fine_tune`, and InvalidRequest if the directory holds no user adapter, or one of another vaccine.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    loaded = load_base(base, dtype=dtype, device=device)
    earlier = earlier_record(user_adapter_dir, vaccine_dir)
    check_base(user_adapter_dir, loaded.digest)
    defence = Defence(rule=config.panacea)
    asked = [{**one, "stage": STAGE, "steps": config.steps} for one in defence.to_list()]
    write_json_atomic(out / "config.json", {"base": loaded.name, "stage": STAGE, **config.to_dict()})
    user = require_valid(read_rows_file(training_file, min_rows=1))
    harmful = read_provider_rows({HARMFUL: harmful_file}, evaluation_file)[HARMFUL]
    rows = TrainingRows(
        encode_rows(loaded.tokenizer, user, config.max_length),
        harmful=encode_provider_rows(loaded.tokenizer, HARMFUL, harmful, config.max_length),
    )
    settings = _settings(config, user_adapter_dir)
    course = plot_course(rows, settings, defence)
    set_seed(config.seed)
    tuned = _continued(loaded, vaccine_dir, user_adapter_dir, settings)
    collator = Collator(loaded.tokenizer.pad_token_id)
    trainer = make_trainer(
        tuned, rows, course, defence, collator, out, stage=STAGE, held_out=[], should_stop=should_stop
    )
    trainer.run(resume_from)
    record = {"config": config.to_dict(), "digests": digests({"training_file": training_file, HARMFUL: harmful_file})}
    past = list(earlier.get("defences") or [])
    save_adapters(trainer, loaded, vaccine_dir, out, defences=[*past, *asked], seed=config.seed, **record)
    report = training_report(trainer, rows, course, asked, out)
    seconds = round(time.monotonic() - started, 3)
    write_json_atomic(out / "report.json", {**report, "earlier_defences": past, "seconds": seconds})


def _settings(config: RepairConfig, directory: Path) -> FineTuneConfig:
    """The repair's settings, with rank, scale and dropout of the adapter."""
    saved = PeftConfig.from_pretrained(str(directory))
    return config.as_fine_tuning(lora_r=saved.r, lora_alpha=saved.lora_alpha, lora_dropout=saved.lora_dropout)


def _continued(base: Base, vaccine_dir: Path | None, directory: Path, settings: FineTuneConfig) -> PeftModel:
    """The base with its frozen vaccine and the finished user adapter, which trains."""
    model: PreTrainedModel | PeftModel = base.model
    if vaccine_dir is not None:
        model = add_vaccine(base.model, vaccine_dir, base_digest=base.digest)
    tuned = add_user_adapter(model, settings)
    load_adapter_weights(tuned, USER, directory)
    return tuned
