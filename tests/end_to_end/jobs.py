"""A user's and an operator's view of jobs, for the end-to-end tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
from openai.types.fine_tuning import FineTuningJob

from service.artefacts.store import ArtefactStore
from service.db.engine import make_engine, read_transaction, session_factory
from service.db.repositories.adapters import AdminAdapterRepository
from service.db.repositories.vaccines import AdminVaccineRepository
from tests.end_to_end.running_service import RunningService, until

ENDED = ("succeeded", "failed", "cancelled")


def create_job(client: openai.OpenAI, base: Path, training_file: Path, **request: Any) -> str:
    """Upload the file and create a job for it; its id."""
    with training_file.open("rb") as stream:
        file = client.files.create(file=stream, purpose="fine-tune")
    return client.fine_tuning.jobs.create(model=str(base), training_file=file.id, **request).id


def wait_for_end(client: openai.OpenAI, job_id: str, seconds: float = 240.0) -> FineTuningJob:
    def look() -> FineTuningJob | None:
        job = client.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in ENDED else None

    job = until(look, seconds, every=0.2)
    assert job is not None
    return job


def extra(job: FineTuningJob) -> dict[str, Any]:
    """The fields of the job that OpenAI's has not."""
    return job.model_extra or {}


def wait_for_step(client: openai.OpenAI, job_id: str, stage: str, step: int, seconds: float = 240.0) -> None:
    """Wait until the job has reported so many steps of a stage."""
    until(lambda: max(steps_told(client, job_id, stage), default=0) >= step, seconds, every=0.1)


def events(client: openai.OpenAI, job_id: str) -> list[Any]:
    """All events of the job, oldest first."""
    return list(client.fine_tuning.jobs.list_events(job_id, limit=100))[::-1]


def steps_told(client: openai.OpenAI, job_id: str, stage: str) -> list[int]:
    """The steps of a stage in the order in which metrics events told them."""
    told: list[dict[str, Any]] = [e.data for e in events(client, job_id) if e.type == "metrics"]
    return [data["step"] for data in told if data["stage"] == stage]


def adapter_weights(service: RunningService, job_id: str) -> dict[str, Any]:
    """The tensors of the job's released adapter."""
    from safetensors.torch import load_file

    adapter = _read(service, lambda session: AdminAdapterRepository(session).get_by_job(job_id))
    assert adapter.place == "released"
    return dict(load_file(_store(service).path(adapter.storage_key, "adapter_model.safetensors")))


def vaccine_bytes(service: RunningService, vaccine_id: str) -> bytes:
    """The vaccine's weights as they are stored."""
    vaccine = _read(service, lambda session: AdminVaccineRepository(session).get(vaccine_id))
    return _store(service).read(vaccine.storage_key, "adapter_model.safetensors")


def _store(service: RunningService) -> ArtefactStore:
    return ArtefactStore(service.data_dir / "artefacts")


def _read(service: RunningService, look: Callable[[Any], Any]) -> Any:
    engine = make_engine(f"sqlite:///{service.data_dir / 'tvaccine.sqlite3'}")
    try:
        with read_transaction(session_factory(engine)) as session:
            return look(session)
    finally:
        engine.dispose()
