"""The vaccine of the job's base: the pinned one, or one that is made first while the job waits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.db.models import READY
from service.db.repositories.vaccines import AdminVaccineRepository
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
    """The gate's prompts, checked to share none with the vaccine's training rows."""


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
    prompts_key = vaccine.files.get("gate_prompts")
    if vaccine.storage_key is None or prompts_key is None:
        raise ScoringFailed(f"The vaccine {vaccine.id} lacks its adapter or its gate prompts.")
    return PinnedVaccine(vaccine.id, desk.store.path(vaccine.storage_key), desk.store.path(prompts_key))


def _is_ready(desk: Desk) -> bool:
    if desk.order.vaccine_id is None:
        return False
    with desk.reading() as session:
        vaccine = AdminVaccineRepository(session).get(desk.order.vaccine_id)
    return vaccine is not None and vaccine.state == READY
