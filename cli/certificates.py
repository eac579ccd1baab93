"""Certificates on this machine, for `tvaccine certify` and for `tvaccine vaccinate --certify`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.output import say
from tvaccine_core.errors import DatasetOverlap, InvalidRequest

if TYPE_CHECKING:
    from tvaccine_core.certificate.config import CertificateConfig
    from tvaccine_core.certificate.rows import CertificateFiles

FAILED_STATUS = 1
FOLDER = "certificate"
"""Below a vaccine's directory."""


@dataclass(frozen=True)
class CertificateOrder:
    """How a vaccine that is yet to be made will be attacked."""

    config: CertificateConfig
    files: CertificateFiles
    judge: str | None

    def run(self, base: str, vaccine: Path, should_stop: Callable[[], bool]) -> dict[str, Any] | None:
        """Attack the vaccine or go on with it, in its directory; the certificate, None if it was interrupted."""
        out = vaccine / FOLDER
        clear_of_another(out, vaccine)
        roles = ("prompts", "harmful", "benign", "task", "heldout", "chat", "alignment", "probe")
        places = {f"{role}_file": getattr(self.files, role) for role in roles}
        return run_certificate(base, vaccine, out, self.config, should_stop=should_stop, judge=self.judge, **places)


def order_certificate(
    config: dict[str, Any], vaccine_files: dict[str, Path], prompts: Path | None, attack: Path | None, judge: str | None
) -> CertificateOrder:
    """The order of `--certify`, its data checked before anything is trained.

    vaccine_files: as `alignment.finished.made_from` gives them. None: the demo's prompts, the demo's rows to attack
    with, the shipped judge.
    Raises InvalidRequest and DatasetOverlap, which name the file or the setting, and InvalidRequest under `torchrun`.
    """
    from tvaccine_core.certificate.config import CertificateConfig
    from tvaccine_core.certificate.rows import CertificateFiles, read_rows
    from tvaccine_core.data.datasets import demo_file

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        message = "--certify runs in one process; make the vaccine first, then run `tvaccine certify`."
        raise InvalidRequest(message, param="certify")
    files = CertificateFiles(
        prompts=prompts or demo_file("gate_prompts"),
        harmful=attack or demo_file("attack"),
        benign=demo_file("benign_prompts"),
        task=demo_file("task_train"),
        heldout=demo_file("task_heldout"),
        alignment=vaccine_files["alignment"],
        probe=vaccine_files.get("harmful"),
    )
    order = CertificateOrder(CertificateConfig.from_dict(config), files, judge)
    try:
        read_rows(files, order.config)
    except (InvalidRequest, DatasetOverlap) as error:
        message = f"The vaccine's certificate cannot be made: {error.message}"
        raise type(error)(message, param=error.param, code=error.code, details=error.details) from error
    return order


def clear_of_another(out: Path, vaccine: Path) -> None:
    """Remove the certificate in `out` if it is about other weights than those that now lie in `vaccine`."""
    from tvaccine_core.data.datasets import file_digest
    from tvaccine_core.models.adapter_files import WEIGHTS_FILE

    orders = out / "config.json"
    if not orders.is_file():
        return
    about = json.loads(orders.read_text("utf-8")).get("vaccine_sha256")
    if about != file_digest(vaccine / WEIGHTS_FILE).removeprefix("sha256:"):
        say(f"tvaccine: {out} holds the certificate of a vaccine that is no more; it is made anew")
        shutil.rmtree(out)


def run_certificate(
    base: str | None,
    vaccine: Path,
    out: Path,
    settings: CertificateConfig,
    *,
    should_stop: Callable[[], bool],
    **arguments: Any,
) -> dict[str, Any] | None:
    """Run the core's `certify` to its end; the certificate, None if it was interrupted."""
    from tvaccine_core.certificate.run import certify
    from tvaccine_core.models.registry import EMBEDDED
    from tvaccine_core.training.checkpoints import latest_checkpoint
    from tvaccine_core.training.stop import Stopped

    resume_from = latest_checkpoint(out / "checkpoints")
    if resume_from is not None:
        say(f"tvaccine: going on from {resume_from}")
    say(f"tvaccine: attacking the vaccine {len(settings.attacks)} times, in {out}")
    try:
        certify(base or EMBEDDED, vaccine, out, settings, resume_from=resume_from, should_stop=should_stop, **arguments)
    except Stopped:
        say(f"tvaccine: stopped; the same command goes on in {out}")
        return None
    found: dict[str, Any] = json.loads((out / "certificate.json").read_text("utf-8"))
    return found


def words_of(certificate: dict[str, Any], out: Path) -> str:
    """The certificate for a human."""
    checks = [f"  {'ok  ' if check['passed'] else 'FAIL'} {check['words']}" for check in certificate["checks"]]
    measured = [("clean", certificate["clean"]), *((one["label"], one["vaccinated"]) for one in certificate["attacks"])]
    accuracy = [f"{label} {one['task']['accuracy']} %" for label, one in measured if one["task"]]
    lines = [f"The vaccine {certificate['verdict']} its certificate.", *checks]
    if accuracy:
        lines.append(f"Task accuracy: {', '.join(accuracy)}")
    return "\n".join([*lines, f"Certificate: {out / 'certificate.json'}"])


def exit_by(certificate: dict[str, Any]) -> None:
    """Raises typer.Exit with status 1 for a vaccine that did not pass."""
    if certificate["verdict"] == "failed":
        raise typer.Exit(FAILED_STATUS)
