"""The path of a vaccination job: one run of the alignment, stored as a version of the base's vaccine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from service.db.repositories.vaccines import AdminVaccineRepository
from service.vaccines import complete_vaccination
from tvaccine_core.errors import NotFound
from worker.desk import Desk
from worker.interruptions import LeaseLost
from worker.training_run import run_trainer

STAGE = "vaccinating"
PARTS = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "tvaccine.json",
    "config.json",
    "report.json",
    "metrics.jsonl",
)


def follow(desk: Desk) -> None:
    """Align the base, store the vaccine and end the job. Raises TVaccineError or Interruption."""
    desk.enter(STAGE)
    directory = run_trainer(desk, STAGE, "align", _arguments(desk))
    desk.check()
    stored = desk.store.put_tree("vaccines", _gather(directory, desk.attempt.root / "vaccine"))
    identity = json.loads((directory / "tvaccine.json").read_text("utf-8"))
    with desk.fenced() as session:
        done = complete_vaccination(
            session,
            desk.claim,
            storage_key=stored.key,
            sha256=stored.sha256,
            base_digest=identity["base_digest"],
            report=json.loads((directory / "report.json").read_text("utf-8")),
        )
    if not done:
        desk.store.delete(stored.key)
        raise LeaseLost
    desk.attempt.clear()


def _arguments(desk: Desk) -> dict[str, object]:
    with desk.reading() as session:
        vaccine = AdminVaccineRepository(session).get_by_job(desk.order.id)
    if vaccine is None:
        raise NotFound(f"The vaccination {desk.order.id} has no vaccine to make.")
    harmful = vaccine.files.get("harmful")
    return {
        "base": desk.order.base,
        "alignment_file": desk.store.path(vaccine.files["alignment"]),
        "harmful_file": None if harmful is None else desk.store.path(harmful),
        "config": desk.order.config,
        "dtype": desk.settings.dtype,
        "device": desk.settings.device,
    }


def _gather(run_dir: Path, target: Path) -> Path:
    """The parts of a run that make the vaccine, without the trainer's own state."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in PARTS:
        if (run_dir / name).is_file():
            shutil.copy2(run_dir / name, target / name)
    return target
