"""Repair of a tuned model that did not pass the gate, where the job's policy asks for it."""

from __future__ import annotations

from pathlib import Path

from worker.desk import Desk
from worker.stages.fine_tuning import TunedModel, trained_model
from worker.stages.vaccinating import PinnedVaccine
from worker.training_run import run_trainer

STAGE = "repairing"


def repair(desk: Desk, tuned: TunedModel, vaccine: PinnedVaccine, training_file: Path) -> TunedModel:
    """Run or resume the repair; the model to be scored again. Raises TVaccineError or Interruption."""
    desk.enter(STAGE)
    config = dict(desk.order.policy["repair"])
    method = str(config.pop("method"))
    desk.tell(f"Did not pass the gate; repaired with {method} and scored again", data={"repair": method})
    directory = run_trainer(
        desk,
        STAGE,
        "repair",
        {
            "base": desk.order.base,
            "vaccine_dir": vaccine.directory,
            "user_adapter_dir": tuned.user_dir,
            "training_file": training_file,
            "harmful_file": vaccine.harmful_file,
            "config": config,
            "dtype": desk.settings.dtype,
            "device": desk.settings.device,
        },
    )
    return trained_model(desk, directory, defences=(*tuned.defences, method), tokens_before=tuned.trained_tokens)
