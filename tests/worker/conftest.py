"""A worker without Celery and without a model: real database, store and supervision, a fake trainer."""

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.artefacts.store import ArtefactStore
from service.db.engine import transaction
from service.db.models import Event, Job
from service.db.repositories.events import EventRepository
from service.db.repositories.jobs import JobQueueRepository
from service.files import store_upload
from service.jobs import JobRequest, create_job
from service.settings import Settings
from tests.service.conftest import (  # noqa: F401 - fixtures
    database_url,
    factory,
    migrated_sqlite,
    postgresql,
    project_id,
)
from worker import execution
from worker.runtime import Runtime

FAKE_TRAINER = Path(__file__).with_name("fake_trainer.py")
BASE = "tiny"


@dataclass
class Shop:
    """What a test of the worker needs: queue a job, run a worker on it, look at what came of it."""

    runtime: Runtime
    project_id: str
    plan_file: Path

    def plan(self, **deeds: dict[str, str]) -> None:
        """What the fake trainer does: stage -> attempt -> deed."""
        self.plan_file.write_text(json.dumps(deeds))

    def runs(self) -> list[dict[str, Any]]:
        """The orders that trainers got, in turn."""
        log = self.plan_file.with_name("runs.jsonl")
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def queue(self, rows: int = 12, **request: Any) -> str:
        """Upload a training file and queue a job for it; its id."""
        row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
        stream = io.BytesIO((json.dumps(row) + "\n").encode() * rows)
        settings = self.runtime.settings
        with transaction(self.runtime.sessions) as session:
            file = store_upload(
                session, settings, self.project_id, filename="rows.jsonl", purpose="fine-tune", stream=stream
            )
        with transaction(self.runtime.sessions) as session:
            asked = JobRequest(**{"model": BASE, "training_file": file.id, "seed": 7, **request})
            return create_job(session, settings, self.project_id, asked).id

    def work(self) -> list[str]:
        """Run every queued job once, as one worker would; their ids in turn."""
        done = []
        while waiting := self.queued():
            execution.run_claimed(self.runtime, waiting[0])
            done.append(waiting[0])
            assert len(done) < 30
        return done

    def work_once(self, job_id: str) -> None:
        """One message for one job."""
        execution.run_claimed(self.runtime, job_id)

    def queued(self) -> list[str]:
        with transaction(self.runtime.sessions) as session:
            return list(JobQueueRepository(session).due(0.0, dispatch_after=-1e12))

    def job(self, job_id: str) -> Job:
        with transaction(self.runtime.sessions) as session:
            job = JobQueueRepository(session).get(job_id)
        assert job is not None
        return job

    def events(self, job_id: str) -> list[Event]:
        """Oldest first."""
        with transaction(self.runtime.sessions) as session:
            return list(EventRepository(session).list(job_id, limit=1000))[::-1]

    def messages(self, job_id: str) -> list[str]:
        return [event.message for event in self.events(job_id)]

    @property
    def store(self) -> ArtefactStore:
        return self.runtime.store


Open = Callable[..., Shop]


@pytest.fixture
def backend() -> str:
    """SQLite; tests that shall also run on PostgreSQL parametrize this."""
    return "sqlite"


def small_data(directory: Path) -> dict[str, Any]:
    """Settings for a vaccination from a handful of rows."""
    files = {}
    for number, name in enumerate(("alignment", "harmful")):
        path = directory / f"{name}.jsonl"
        messages = [
            {"role": "user", "content": f"{name} {number} asks something of its own"},
            {"role": "assistant", "content": "No."},
        ]
        path.write_text(json.dumps({"messages": messages}) + "\n")
        files[f"{name}_file"] = path
    prompts = directory / "prompts.jsonl"
    prompts.write_text('{"prompt": "first prompt"}\n{"prompt": "second one"}\n')
    return {**files, "gate_prompts_file": prompts, "gate": {"batch_prompts": 2, "cap": 2}}


@pytest.fixture
def open_shop(
    factory: sessionmaker[Session],  # noqa: F811
    project_id: str,  # noqa: F811
    database_url: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Open:
    """Call with settings: a shop whose trainers are fake."""
    plan_file = tmp_path / "plan.json"
    plan_file.write_text("{}")
    small = small_data(tmp_path)
    monkeypatch.setenv("FAKE_PLAN", str(plan_file))
    monkeypatch.setattr(
        "worker.training_run.trainer_command",
        lambda spec: [sys.executable, "-S", str(FAKE_TRAINER), str(spec), str(os.getpid())],
    )

    def make(**values: Any) -> Shop:
        settings = Settings(
            **{
                "data_dir": tmp_path / "data",
                "database_url": database_url,
                "base": BASE,
                "lease_seconds": 10.0,
                "renew_seconds": 0.05,
                "cancel_grace_seconds": 1.0,
                **small,
                **values,
                "gate": {**small["gate"], **values.get("gate", {})},
            }
        )
        settings.make_directories()
        runtime = Runtime(settings, factory, ArtefactStore(settings.artefacts_dir), "worker1@here")
        return Shop(runtime, project_id, plan_file)

    return make


@pytest.fixture
def shop(open_shop: Open) -> Shop:
    """A shop with ordinary settings."""
    return open_shop()
