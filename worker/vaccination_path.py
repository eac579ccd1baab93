"""The path of a vaccination job: the alignment, its certificate if one is made, and a version of the base's vaccine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from service.artefacts.store import WEIGHTS
from service.certificates import DOCUMENT, OFF, PICTURE, certificate_files
from service.configurations import certificate_config
from service.db.models import Vaccine
from service.db.repositories.vaccines import AdminVaccineRepository
from service.vaccine_data import ROLES
from service.vaccines import complete_vaccination
from tvaccine_core.data.datasets import file_digest
from tvaccine_core.errors import NotFound, ScoringFailed
from worker.desk import Desk
from worker.interruptions import LeaseLost
from worker.training_run import run_trainer

STAGE, CERTIFYING = "vaccinating", "certifying"
PARTS = (WEIGHTS, "adapter_config.json", "tvaccine.json", "config.json", "report.json", "metrics.jsonl")
CERTIFICATE_PARTS = (DOCUMENT, PICTURE)
VERDICTS = ("passed", "failed")


def follow(desk: Desk) -> None:
    """Align the base, certify and store the vaccine, and end the job. Raises TVaccineError or Interruption."""
    vaccine = _vaccine(desk)
    desk.enter(STAGE)
    directory = run_trainer(desk, STAGE, "align", _arguments(desk, vaccine))
    parts: list[tuple[Path, tuple[str, ...]]] = [(directory, PARTS)]
    summary = None
    if desk.settings.certificate != OFF:
        certified = _certify(desk, vaccine, directory)
        summary = _summary(desk, certified, directory)
        parts.append((certified, CERTIFICATE_PARTS))
    desk.check()
    stored = desk.store.put_tree("vaccines", _gather(parts, desk.attempt.root / "vaccine"))
    identity = json.loads((directory / "tvaccine.json").read_text("utf-8"))
    with desk.fenced() as session:
        done = complete_vaccination(
            session,
            desk.settings,
            desk.claim,
            storage_key=stored.key,
            sha256=stored.sha256,
            base_digest=identity["base_digest"],
            report=json.loads((directory / "report.json").read_text("utf-8")),
            certificate=summary,
        )
    if not done:
        desk.store.delete(stored.key)
        raise LeaseLost
    desk.attempt.clear()


def _vaccine(desk: Desk) -> Vaccine:
    with desk.reading() as session:
        vaccine = AdminVaccineRepository(session).get_by_job(desk.order.id)
    if vaccine is None:
        raise NotFound(f"The vaccination {desk.order.id} has no vaccine to make.")
    return vaccine


def _arguments(desk: Desk, vaccine: Vaccine) -> dict[str, object]:
    harmful = vaccine.files.get("harmful")
    return {
        "base": desk.order.base,
        "alignment_file": desk.store.path(vaccine.files["alignment"]),
        "harmful_file": None if harmful is None else desk.store.path(harmful),
        "config": desk.order.config,
        "dtype": desk.settings.dtype,
        "device": desk.settings.device,
    }


def _certify(desk: Desk, vaccine: Vaccine, vaccine_dir: Path) -> Path:
    """Attack the vaccine, with the data that it was made with beside it; the directory of the run."""
    desk.enter(CERTIFYING)
    own = {role: desk.store.path(vaccine.files[role]) for role in ROLES if role in vaccine.files}
    files = certificate_files(desk.settings, own)
    return run_trainer(
        desk,
        CERTIFYING,
        "certify",
        {
            "base": desk.order.base,
            "vaccine_dir": vaccine_dir,
            **{f"{role}_file": path for role, path in vars(files).items()},
            "judge": desk.settings.judge,
            "config": certificate_config(desk.settings).to_dict(),
            "dtype": desk.settings.dtype,
            "device": desk.settings.device,
        },
    )


def _summary(desk: Desk, certified: Path, vaccine_dir: Path) -> dict[str, Any]:
    """The summary of the certificate, told as an event. Raises ScoringFailed unless it is about these very weights."""
    summary: dict[str, Any] = json.loads((certified / "report.json").read_text("utf-8"))
    weights = file_digest(vaccine_dir / WEIGHTS).removeprefix("sha256:")
    if summary.get("verdict") not in VERDICTS or summary.get("vaccine_sha256") != weights:
        raise ScoringFailed("The certificate holds no verdict on this vaccine; the vaccine is not used.")
    desk.tell(f"Certificate: {summary['verdict']}", data={"certificate": summary})
    return summary


def _gather(parts: list[tuple[Path, tuple[str, ...]]], target: Path) -> Path:
    """The parts of the runs that make the vaccine, without the trainer's own state."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for directory, names in parts:
        for name in names:
            if (directory / name).is_file():
                shutil.copy2(directory / name, target / name)
    return target
