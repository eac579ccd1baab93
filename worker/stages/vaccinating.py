"""The vaccine of the job's base: the pinned one, or one that is made first while the job waits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.db.models import READY
from service.db.repositories.vaccines import AdminVaccineRepository
from service.vaccine_data import ALIGNMENT, GATE_PROMPTS, HARMFUL, ROLES
from service.vaccines import take_vaccine
from tvaccine_core.errors import ScoringFailed
from worker.desk import Desk
from worker.interruptions import Parked

STAGE = "vaccinating"


@dataclass(frozen=True)
class PinnedVaccine:
    """The vaccine a job uses to its end, whatever is activated meanwhile."""

    id: str
    directory: Path
    prompts_file: Path
    """The gate's prompts, checked to share none with the two files below."""
    safe_file: Path
    harmful_file: Path
    """Rows with safe and with harmful answers that the vaccine was made with, for defences that need some."""
    method: str


def pinned_vaccine(desk: Desk) -> PinnedVaccine:
    """The job's vaccine, ready for use.

    Raises:
        Parked: it is being made; this worker is free.
        TVaccineError: it could not be made (code ``vaccination_failed``).
    """
    if not _is_ready(desk):
        desk.enter(STAGE)
    desk.check()
    with desk.fenced() as session:
        vaccine = take_vaccine(session, desk.settings, desk.claim)
    if vaccine is None:
        raise Parked
    kept = {role: desk.store.path(vaccine.files[role]) for role in ROLES if role in vaccine.files}
    if vaccine.storage_key is None or len(kept) < len(ROLES):
        raise ScoringFailed(f"The vaccine {vaccine.id} lacks its adapter or a file that it was made with.")
    directory = desk.store.path(vaccine.storage_key)
    return PinnedVaccine(vaccine.id, directory, kept[GATE_PROMPTS], kept[ALIGNMENT], kept[HARMFUL], vaccine.method)


def _is_ready(desk: Desk) -> bool:
    if desk.order.vaccine_id is None:
        return False
    with desk.reading() as session:
        vaccine = AdminVaccineRepository(session).get(desk.order.vaccine_id)
    return vaccine is not None and vaccine.state == READY
