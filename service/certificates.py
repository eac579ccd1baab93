"""Certificates of vaccines: what they are made from, where they lie, and what a vaccine may do without one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.artefacts.store import ArtefactStore
from service.configurations import certificate_config
from service.db.models import READY, Vaccine
from service.settings import Settings
from service.vaccine_data import ALIGNMENT, GATE_PROMPTS, HARMFUL
from tvaccine_core.certificate.document import Certificate, parse_certificate
from tvaccine_core.certificate.rows import CertificateFiles, read_rows, rules_digest
from tvaccine_core.data.datasets import demo_file
from tvaccine_core.errors import DatasetOverlap, InvalidRequest, NotFound

OFF, REQUIRED = "off", "required"
NOT_CERTIFIED = "vaccine_not_certified"
REPORTED = "certificate"
"""Where a vaccine's report keeps the summary."""
DOCUMENT, PICTURE = "certificate.json", "certificate.png"
ABSENT = "This vaccine has no certificate."


def certificate_files(settings: Settings, own: Mapping[str, Path]) -> CertificateFiles:
    """What a certificate is made from. own: the vaccine's data by role, as `vaccine_data.ROLES` has them."""
    given = settings.certificate_files
    return CertificateFiles(
        prompts=own[GATE_PROMPTS],
        harmful=given.get("harmful") or demo_file("attack"),
        benign=settings.benign_prompts_file or demo_file("benign_prompts"),
        task=given.get("task") or demo_file("task_train"),
        heldout=given.get("heldout") or demo_file("task_heldout"),
        chat=given.get("chat"),
        alignment=own[ALIGNMENT],
        probe=own.get(HARMFUL),
    )


def require_usable_data(settings: Settings, own: Mapping[str, Path]) -> None:
    """Check, where certificates are made, that one can be made of these data: before an hour of training, not after.

    Raises InvalidRequest and DatasetOverlap; both name the file.
    """
    if settings.certificate == OFF:
        return
    try:
        read_rows(certificate_files(settings, own), certificate_config(settings))
    except (InvalidRequest, DatasetOverlap) as error:
        message = f"The vaccine's certificate cannot be made (TVACCINE_CERTIFICATE_FILES): {error.message}"
        raise type(error)(message, param=error.param, code=error.code, details=error.details) from error


def current_rules(settings: Settings, own: Mapping[str, Path]) -> str:
    """The digest that a certificate made now would have of its settings and data."""
    return rules_digest(certificate_config(settings), certificate_files(settings, own), settings.judge)


def summary_of(vaccine: Vaccine) -> dict[str, Any] | None:
    """The summary of the vaccine's certificate, if it has one."""
    found = (vaccine.report or {}).get(REPORTED)
    return found if isinstance(found, dict) else None


def refusal(settings: Settings, vaccine: Vaccine) -> str | None:
    """Why this ready vaccine may not be used here; None: it may.

    Only a certificate that was passed by exactly these weights counts where one is required.
    """
    if settings.certificate != REQUIRED or vaccine.state != READY:
        return None
    summary = summary_of(vaccine)
    if summary is None or summary.get("vaccine_sha256") != vaccine.sha256:
        return f"Vaccine {vaccine.id} has no certificate, and this server requires one."
    if summary.get("verdict") != "passed":
        return (
            f"Vaccine {vaccine.id} did not pass its certificate, and this server requires one. {summary.get('reason')}"
        )
    return None


def read_certificate(store: ArtefactStore, vaccine: Vaccine) -> Certificate:
    """The whole certificate. Raises NotFound where there is none."""
    return parse_certificate(json.loads(_read(store, vaccine, DOCUMENT)))


def read_picture(store: ArtefactStore, vaccine: Vaccine) -> bytes:
    """The certificate's picture (PNG). Raises NotFound where there is none."""
    return _read(store, vaccine, PICTURE)


def _read(store: ArtefactStore, vaccine: Vaccine, name: str) -> bytes:
    key = vaccine.storage_key
    if summary_of(vaccine) is None or key is None or name not in store.names(key):
        raise NotFound(ABSENT if name == DOCUMENT else "This vaccine has no picture of a certificate.")
    return store.read(key, name)
