"""What a fine-tuning or repairing run leaves: adapters with their records, and the numbers of its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvaccine_core.finetuning.defended_trainer import DefendedTrainer
from tvaccine_core.finetuning.panacea import PanaceaTrainer
from tvaccine_core.finetuning.trainers import Course
from tvaccine_core.finetuning.training_rows import TrainingRows
from tvaccine_core.models.adapter_files import WEIGHTS_FILE, save_adapter
from tvaccine_core.models.adapter_records import read_record, write_record
from tvaccine_core.models.adapters import USER, combine_adapters
from tvaccine_core.models.base import Base
from tvaccine_core.models.digest import sha256_of
from tvaccine_core.training.metrics import METRICS_FILE, read_metrics

UNPERTURBED, COMBINED = "unperturbed", "combined"


def save_adapters(
    trainer: DefendedTrainer,
    base: Base,
    vaccine_dir: Path | None,
    out: Path,
    *,
    defences: list[dict[str, Any]],
    **facts: Any,
) -> None:
    """Writes user/ and combined/; after Panacea both are perturbed, and unperturbed/ is the user adapter before.

    defences: all that the adapter went through, for its record. facts: more for the record of the user adapter.
    """
    identity: dict[str, Any] = {"base_name": base.name, "base_digest": base.digest, "vaccine_sha256": None}
    if vaccine_dir is not None:
        identity["vaccine_sha256"] = sha256_of([vaccine_dir / WEIGHTS_FILE])
    if isinstance(trainer, PanaceaTrainer):
        save_adapter(trainer.model, USER, out / UNPERTURBED, base_id=base.name)
        before = [*defences[:-1], {**defences[-1], "eps_added": False}]
        write_record(out / UNPERTURBED, kind="user", **identity, **facts, defences=before)
        trainer.perturb()
    save_adapter(trainer.model, USER, out / USER, base_id=base.name)
    write_record(out / USER, kind="user", **identity, **facts, defences=defences)
    combined = out / COMBINED
    combine_adapters(vaccine_dir, out / USER, combined, base_id=base.name, base_digest=base.digest)
    # Who loads the released adapter may know what was done, not how it was tuned.
    write_record(combined, **{**read_record(combined), "defences": [one["name"] for one in defences]})


def training_report(
    trainer: DefendedTrainer, rows: TrainingRows, course: Course, defences: list[dict[str, Any]], out: Path
) -> dict[str, Any]:
    """steps; trained_tokens (all tokens of the user's rows seen, repeats counted) and provider_tokens (the same of the
    provider's rows that were learned); train_loss (mean over the steps on the user's rows, and those mixed in);
    valid_loss (last measured, or None); defences (name, settings and, under "result", what came of each).
    """
    lines = read_metrics(out / METRICS_FILE)
    losses = [line["loss"] for line in lines if "loss" in line and not line.get("alignment_state")]
    valid = [line["valid_loss"] for line in lines if "valid_loss" in line]
    own, added = _tokens(rows, course)
    return {
        "steps": trainer.state.global_step,
        "trained_tokens": own,
        "provider_tokens": added,
        "train_loss": sum(losses) / len(losses),
        "valid_loss": valid[-1] if valid else None,
        "defences": with_results(defences, rows.mixing, trainer.report(lines)),
    }


def with_results(
    defences: list[dict[str, Any]], mixing: Mapping[str, Any], rule: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Each defence with what came of it."""
    return [{**one, "result": dict(mixing if one["name"] == "safe_mixing" else rule)} for one in defences]


def _tokens(rows: TrainingRows, course: Course) -> tuple[int, int]:
    """Tokens of the user's rows and of the provider's, in all draws of the run."""
    own = added = 0
    for place in range(len(course.draws)):
        length = len(course.draws[place].input_ids)
        if course.draws.row_at(place) < len(rows.user):
            own += length
        else:
            added += length
    if course.safe is not None:
        added += sum(len(course.safe[place].input_ids) for place in range(len(course.safe)))
    return own, added
