"""Creating fine-tuning jobs. The row that is written is also the message to the workers."""

import secrets
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service import ids
from service.configurations import fine_tune_config, job_policy
from service.db.models import FINE_TUNING, Job
from service.db.repositories.files import FileRepository
from service.db.repositories.jobs import JobRepository
from service.domain import job_state
from service.domain.job_request import MAX_SEED, Hyperparameters, check
from service.domain.job_request import JobRequest as JobRequest
from service.files import FINE_TUNE
from service.settings import Settings
from tvaccine_core.errors import Conflict, InvalidRequest, NotFound, UnknownBase

POLICY = "policy"
"""Key of a job's config: the operator's policy as it was when the job was created (`configurations.job_policy`)."""


def create_job(session: Session, settings: Settings, project_id: str, request: JobRequest) -> Job:
    """Queue a fine-tuning job; for a repeated idempotency key, the job of the first request.

    Raises UnknownBase, NotFound for a file, InvalidRequest naming the field, and Conflict when the
    idempotency key was used for another request.
    """
    asked = check(request)
    earlier = _earlier(session, project_id, request)
    if earlier is not None:
        return earlier
    require_base(settings, request.model)
    for field in ("training_file", "validation_file"):
        _require_training_file(session, project_id, field, getattr(request, field))
    job = _new_job(settings, project_id, request, asked)
    try:
        with session.begin_nested():
            return job_state.create(session, job)
    except IntegrityError:
        # Another request with the same idempotency key was faster; any other reason is ours to hear of.
        winner = _earlier(session, project_id, request)
        if winner is None:
            raise
        return winner


def require_base(settings: Settings, base: str) -> None:
    """Raises UnknownBase unless this server offers `base`."""
    if base in settings.allowed_bases:
        return
    offered = ", ".join(settings.allowed_bases)
    if base.startswith("ft:"):
        raise UnknownBase(f"A fine-tuned model cannot be tuned again. Base models: {offered}.")
    raise UnknownBase(f"There is no base model {base[:100]!r} on this server. Base models: {offered}.")


def _earlier(session: Session, project_id: str, request: JobRequest) -> Job | None:
    if request.idempotency_key is None:
        return None
    job = JobRepository(session, project_id).get_by_idempotency_key(request.idempotency_key)
    if job is not None and job.request_sha256 != request.digest():
        message = "This idempotency key was used for another request. Send a fresh key."
        raise Conflict(message, param="Idempotency-Key", code="idempotency_key_reused")
    return job


def _require_training_file(session: Session, project_id: str, field: str, file_id: str | None) -> None:
    if file_id is None:
        return
    # Locked, so that it cannot be deleted before the job that needs it is there.
    file = FileRepository(session, project_id).get(file_id, lock=True)
    if file is None:
        message = f"No file {file_id[:100]!r} in this project. Upload it with purpose 'fine-tune' first."
        raise NotFound(message, param=field, code="file_not_found")
    if file.purpose != FINE_TUNE:
        message = f"File {file_id} has the purpose {file.purpose!r}. Upload it with purpose 'fine-tune'."
        raise InvalidRequest(message, param=field, code="wrong_purpose")


def _new_job(settings: Settings, project_id: str, request: JobRequest, asked: Hyperparameters) -> Job:
    seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
    config, resolved = _resolve(settings, asked, seed)
    return Job(
        id=ids.new_id(ids.FINE_TUNING_JOB),
        kind=FINE_TUNING,
        project_id=project_id,
        base=request.model,
        suffix=request.suffix,
        seed=seed,
        training_file=request.training_file,
        validation_file=request.validation_file,
        hyperparameters=resolved,
        method={"type": "supervised", "supervised": {"hyperparameters": resolved}},
        job_metadata=dict(request.metadata) if request.metadata else None,
        integrations=[],
        config=config,
        idempotency_key=request.idempotency_key,
        request_sha256=request.digest() if request.idempotency_key else None,
    )


def _resolve(settings: Settings, asked: Hyperparameters, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The trainer's configuration with the policy, and the hyperparameters with every ``auto`` made a number."""
    default = fine_tune_config(settings)
    multiplier = asked.learning_rate_multiplier or 1.0
    config = replace(
        default,
        epochs=asked.n_epochs or default.epochs,
        batch_size=asked.batch_size or default.batch_size,
        learning_rate=default.learning_rate * multiplier,
        seed=seed,
    )
    resolved = {
        "n_epochs": config.epochs,
        "batch_size": config.batch_size,
        "learning_rate_multiplier": multiplier,
    }
    return {**config.to_dict(), POLICY: job_policy(settings)}, resolved
