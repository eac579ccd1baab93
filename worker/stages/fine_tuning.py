"""Train the user's adapter on the vaccinated base."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from service.domain import job_state
from worker.desk import Desk
from worker.interruptions import LeaseLost
from worker.stages.vaccinating import PinnedVaccine
from worker.training_run import run_trainer

STAGE = "fine_tuning"


@dataclass(frozen=True)
class TunedModel:
    """What training left: the combined adapter, the user's part of it, trained tokens, and its defences by name."""

    combined_dir: Path
    user_dir: Path
    trained_tokens: int
    defences: tuple[str, ...] = ()


def fine_tune(desk: Desk, training_file: Path, vaccine: PinnedVaccine) -> TunedModel:
    """Run or resume the fine-tuning of the job. Raises TVaccineError or Interruption."""
    desk.enter(STAGE)
    validation_key = desk.order.validation_key
    defences = desk.order.policy.get("defences", [])
    directory = run_trainer(
        desk,
        STAGE,
        "fine_tune",
        {
            "base": desk.order.base,
            "vaccine_dir": vaccine.directory,
            "training_file": training_file,
            "validation_file": None if validation_key is None else desk.store.path(validation_key),
            "config": desk.order.config,
            "defences": defences,
            "safe_file": vaccine.safe_file,
            "harmful_file": vaccine.harmful_file,
            "judge": desk.settings.judge,
            "dtype": desk.settings.dtype,
            "device": desk.settings.device,
        },
    )
    return trained_model(desk, directory, defences=tuple(one["name"] for one in defences))


def trained_model(desk: Desk, directory: Path, *, defences: tuple[str, ...], tokens_before: int = 0) -> TunedModel:
    """What a finished run left in `directory`; its tokens are added to the job's. Raises LeaseLost."""
    report = json.loads((directory / "report.json").read_text("utf-8"))
    tokens = tokens_before + int(report["trained_tokens"])
    with desk.fenced() as session:
        if not job_state.note(session, desk.claim, trained_tokens=tokens):
            raise LeaseLost
    return TunedModel(directory / "combined", directory / "user", tokens, defences)
