"""The way of an adapter out of quarantine. Only here does a job get the name of a fine-tuned model."""

import re
from pathlib import PurePath
from typing import Any

from sqlalchemy.orm import Session

from service.artefacts.store import Stored
from service.db.models import Adapter, Job
from service.db.repositories.adapters import AdapterRepository, AdminAdapterRepository
from service.db.repositories.audit import AdminAuditRepository
from service.db.repositories.jobs import JobQueueRepository
from service.domain import job_state
from service.domain.job_state import Claim

_SHORT = 8
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_./-]+", re.ASCII)


def model_name(job: Job) -> str:
    """``ft:<base>:<project>:<suffix>:<short id>``; of a base that is a local path, only the last part."""
    base = PurePath(job.base).name if job.base.startswith(("/", ".", "~")) else job.base
    parts = (base, job.project_id or "", job.suffix or "", job.id[-_SHORT:])
    return ":".join(("ft", *(_NOT_IN_NAME.sub("-", part.strip()) for part in parts)))


def quarantine_adapter(session: Session, claim: Claim, stored: Stored) -> Adapter | None:
    """Record the stored adapter that is to be scored; None when the claim is lost.

    An adapter of an earlier attempt is replaced: look at `AdminAdapterRepository.get_by_job` first for the
    key whose files are then to be deleted.
    """
    if not job_state.holds(session, claim):
        return None
    job = JobQueueRepository(session).get(claim.job_id)
    if job is None:
        return None
    return AdminAdapterRepository(session).put_in_quarantine(
        job, storage_key=stored.key, sha256=stored.sha256, size=stored.size
    )


def withdraw_model(session: Session, project_id: str, model: str, actor: str) -> Adapter | None:
    """Take a released model away from its project; its job keeps the name.

    None when the project has no such model. Else the caller deletes what lies under the adapter's
    ``storage_key``, once the transaction is committed.
    """
    adapter = AdapterRepository(session, project_id).remove_released(model)
    if adapter is not None:
        data = {"job_id": adapter.job_id, "sha256": adapter.sha256}
        AdminAuditRepository(session).append(actor, "model.delete", adapter.id, {"model": model, **data})
    return adapter


def complete_release(
    session: Session,
    claim: Claim,
    *,
    released_key: str,
    sha256: str,
    verdict: dict[str, Any],
    trained_tokens: int | None = None,
) -> str | None:
    """End the job well with its released adapter; the name of the new model.

    `ArtefactStore.release` comes before this. None when the claim is lost or the job is to be cancelled: then
    nobody can see the released files, and the caller of a cancelled job deletes them.
    Raises ValueError, for a bug, when `sha256` is not that of the adapter in quarantine; the caller's
    transaction must then roll back.
    """
    job = JobQueueRepository(session).get(claim.job_id)
    if job is None:
        return None
    name = model_name(job)
    result: dict[str, Any] = {"fine_tuned_model": name, "verdict": verdict}
    if trained_tokens is not None:
        result["trained_tokens"] = trained_tokens
    if not job_state.succeed(session, claim, **result):
        return None
    released = AdminAdapterRepository(session).mark_released(
        job.id, storage_key=released_key, sha256=sha256, model_name=name
    )
    if not released:
        raise ValueError(f"the adapter of {job.id} in quarantine is not the one with SHA-256 {sha256}")
    return name
