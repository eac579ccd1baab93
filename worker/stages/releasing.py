"""The end of a fine-tuning job.

The adapter leaves quarantine if it passed the gate, and stays there if not.
"""

from __future__ import annotations

from service.artefacts.keys import moved_to
from service.db.models import RELEASED
from service.db.repositories.adapters import AdminAdapterRepository
from service.domain import job_state
from service.releases import complete_release
from worker.desk import Desk
from worker.interruptions import CancelAsked
from worker.stages.fine_tuning import TunedModel
from worker.stages.scoring import Scored

STAGE = "releasing"
MODEL_BLOCKED = "model_blocked"


def conclude(desk: Desk, tuned: TunedModel, scored: Scored) -> None:
    """Release or block; the job's one final write. Raises TVaccineError or Interruption."""
    desk.check()
    if scored.passed:
        _release(desk, tuned, scored)
    else:
        _block(desk, scored)
    desk.attempt.clear()


def _block(desk: Desk, scored: Scored) -> None:
    reason = scored.summary.get("reason", "")
    message = f"The tuned model did not pass the safety gate and is not released. {reason}"
    with desk.fenced() as session:
        job_state.fail(session, desk.claim, MODEL_BLOCKED, message.strip(), verdict=scored.summary)


def _release(desk: Desk, tuned: TunedModel, scored: Scored) -> None:
    """Move the files first, then write the one row that makes them visible."""
    desk.enter(STAGE)
    released_key = desk.store.release(scored.quarantine_key, scored.sha256)
    with desk.fenced() as session:
        name = complete_release(
            session,
            desk.claim,
            released_key=released_key,
            sha256=scored.sha256,
            verdict=scored.summary,
            trained_tokens=tuned.trained_tokens,
        )
    if name is None:
        raise CancelAsked


def discard_adapter(desk: Desk) -> None:
    """Remove the files of a cancelled job's adapter from quarantine, or from half-way out of it."""
    with desk.reading() as session:
        adapter = AdminAdapterRepository(session).get_by_job(desk.order.id)
    if adapter is None or adapter.place == RELEASED:
        return
    desk.store.delete(adapter.storage_key)
    desk.store.delete(moved_to(adapter.storage_key, "released"))
