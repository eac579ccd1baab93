"""One fine-tuning run: a user's rows, on a vaccinated base, into an adapter for the stock base."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, set_seed

from tvaccine_core.alignment.dropout import forked_generators
from tvaccine_core.data.rows import read_rows_file, require_valid
from tvaccine_core.data.tokenise import Collator, Example, encode_rows
from tvaccine_core.evaluation.judge.loading import load_judge
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.defences import Defence
from tvaccine_core.finetuning.model_rewriter import ModelRewriter
from tvaccine_core.finetuning.provider_rows import digests, needed_files, read_provider_rows
from tvaccine_core.finetuning.results import save_adapters, training_report
from tvaccine_core.finetuning.safe_mixing_config import PARAPHRASE
from tvaccine_core.finetuning.trainers import make_trainer, plot_course
from tvaccine_core.finetuning.training_rows import training_rows
from tvaccine_core.models.adapters import add_user_adapter, add_vaccine
from tvaccine_core.models.base import Base, load_base
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.stop import never

STAGE = "fine_tuning"
PLAIN = Defence()


def fine_tune(
    base: str,
    vaccine_dir: Path | None,
    training_file: Path,
    out: Path,
    config: FineTuneConfig,
    *,
    defence: Defence | None = None,
    safe_file: Path | None = None,
    harmful_file: Path | None = None,
    evaluation_file: Path | None = None,
    judge: str | None = None,
    validation_file: Path | None = None,
    resume_from: Path | None = None,
    should_stop: Callable[[], bool] = never,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Trains a user adapter beside the frozen vaccine and combines the two.

    base: as for `load_base`. vaccine_dir: the base's vaccine; None trains on the stock base.
    defence: what is done against harmful rows (see `defence_config`); None: nothing. safe_file: rows with safe answers
    for it; harmful_file: rows with harmful answers, which nobody is taught; evaluation_file: prompts that the result
    will be scored with, which must be in neither. judge: checks rewritten questions besides; None: none does.
    resume_from: a complete checkpoint of an earlier run with the same arguments.
    Leaves in `out`: config.json, metrics.jsonl, checkpoints/, user/ (the user adapter alone, useless without
    the vaccine), combined/ (the adapter to score and release), after Panacea unperturbed/ (the user adapter without
    eps) and, last, report.json.
    Raises InvalidTrainingFile naming every faulty row, BaseMismatch, UnknownBase, UnsupportedArchitecture,
    InvalidRequest (a file is missing, or the loss stopped being a number), DatasetOverlap, Stopped.
    """
    started = time.monotonic()
    chosen = defence or PLAIN
    files = needed_files(chosen, safe_file, harmful_file)
    out.mkdir(parents=True, exist_ok=True)
    loaded = load_base(base, dtype=dtype, device=device, quantization=config.quantization)
    facts = {"base": loaded.name, "stage": STAGE, **config.to_dict(), "defences": chosen.to_list()}
    write_json_atomic(out / "config.json", facts)
    user = require_valid(read_rows_file(training_file, min_rows=1))
    held_out = _held_out(loaded, validation_file, config)
    provider = read_provider_rows(files, evaluation_file)
    set_seed(config.seed)
    model: PreTrainedModel | PeftModel = loaded.model
    if vaccine_dir is not None:
        model = add_vaccine(loaded.model, vaccine_dir, base_digest=loaded.digest)
    with forked_generators(model.device):  # the user adapter's first weights are those of a run without a defence
        rows = training_rows(
            loaded.tokenizer,
            user,
            provider,
            chosen,
            config,
            resume_from=resume_from,
            make_rewriter=lambda: _rewriter(loaded, model, chosen, judge, should_stop),
        )
    course = plot_course(rows, config, chosen)
    tuned = add_user_adapter(model, config)
    collator = Collator(loaded.tokenizer.pad_token_id)
    trainer = make_trainer(
        tuned, rows, course, chosen, collator, out, stage=STAGE, held_out=held_out, should_stop=should_stop
    )
    trainer.run(resume_from)
    asked = chosen.to_list()
    record = {"config": config.to_dict(), "digests": digests({"training_file": training_file, **files})}
    save_adapters(trainer, loaded, vaccine_dir, out, defences=asked, seed=config.seed, **record)
    report = training_report(trainer, rows, course, asked, out)
    write_json_atomic(out / "report.json", {**report, "seconds": round(time.monotonic() - started, 3)})


def _held_out(base: Base, validation_file: Path | None, config: FineTuneConfig) -> list[Example]:
    if validation_file is None:
        return []
    checked = require_valid(read_rows_file(validation_file, min_rows=1))
    return encode_rows(base.tokenizer, checked[: config.validation_rows], config.max_length)


def _rewriter(
    base: Base,
    model: PreTrainedModel | PeftModel,
    defence: Defence,
    judge: str | None,
    should_stop: Callable[[], bool],
) -> ModelRewriter | None:
    """The vaccinated model, before anybody tunes it, as the one that rewrites questions, if any are rewritten."""
    mixing = defence.mixing
    if mixing is None or mixing.mode != PARAPHRASE:
        return None
    checking = None if judge is None else load_judge(judge, dataclasses.replace(base, model=model))
    return ModelRewriter(model, base.tokenizer, mixing.max_new_tokens, checking, should_stop)
