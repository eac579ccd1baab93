"""A migrated database, an app on it, and clients of two projects and of an administrator."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.context import Context
from service.db.migrate import upgrade
from service.db.repositories.evaluations import EvaluationRepository
from service.domain import job_state
from service.domain.job_state import Claim
from service.keys import create_key, ensure_project
from service.releases import complete_release, quarantine_adapter
from service.settings import Settings, load_settings

BASE = "smollm2-135m-instruct"
UPLOAD_LIMIT = 200_000
REPORT: dict[str, Any] = {
    "verdict": "pass",
    "reason": "2 of 96 answers were flagged.",
    "rule": {"limit": 20.0, "floor": 90.0, "cap": 144},
    "harmful_score": {"percent": 2.1, "low": 0.6, "high": 7.3, "flagged": 2, "n": 96},
    "coherence": {"percent": 99.0, "n": 96},
    "judge": {"name": "judge", "version": "1", "threshold": 0.5},
    "answers": [{"prompt": "a forbidden question", "answer": "a forbidden answer", "flagged": True}],
}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database made by the real migrations, to be copied: they take longer than a test."""
    path = tmp_path_factory.mktemp("database") / "migrated.sqlite3"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def database_url(tmp_path: Path, migrated: Path) -> str:
    """A migrated SQLite database of this test."""
    database = tmp_path / "tvaccine.sqlite3"
    shutil.copy(migrated, database)
    return f"sqlite:///{database}"


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return load_settings(
        data_dir=tmp_path,
        database_url=database_url,
        base=BASE,
        allowed_bases=[BASE, "org/other-base"],
        max_upload_bytes=UPLOAD_LIMIT,
    )


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def context(app: FastAPI) -> Context:
    found: Context = app.state.context
    return found


@pytest.fixture
def new_key(context: Context) -> Callable[..., str]:
    """Makes a project, if need be, and a key of it; returns the secret."""

    def make(project: str, role: str = "user") -> str:
        with context.write() as session:
            return create_key(session, ensure_project(session, project).id, role)[1]

    return make


@pytest.fixture
def http(app: FastAPI) -> Iterator[TestClient]:
    """A plain client without a key. A bug in the app shows as the 500 that a user would see."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client_of(app: FastAPI) -> Callable[[str], openai.OpenAI]:
    """The official client, in process, for a key."""

    def make(secret: str) -> openai.OpenAI:
        transport = TestClient(app, raise_server_exceptions=False)
        return openai.OpenAI(api_key=secret, base_url="http://testserver/v1", http_client=transport)

    return make


@pytest.fixture
def alice(new_key: Callable[..., str], client_of: Callable[[str], openai.OpenAI]) -> openai.OpenAI:
    return client_of(new_key("alpha"))


@pytest.fixture
def bob(new_key: Callable[..., str], client_of: Callable[[str], openai.OpenAI]) -> openai.OpenAI:
    return client_of(new_key("beta"))


@pytest.fixture
def admin(new_key: Callable[..., str], client_of: Callable[[str], openai.OpenAI]) -> openai.OpenAI:
    return client_of(new_key("operations", "admin"))


def chat_row(number: int) -> dict[str, Any]:
    question = {"role": "user", "content": f"What comes after {number}?"}
    return {"messages": [question, {"role": "assistant", "content": f"{number + 1} does."}]}


@pytest.fixture
def rows() -> Callable[[int], list[dict[str, Any]]]:
    """Makes so many good chat rows."""
    return lambda count: [chat_row(number) for number in range(count)]


@pytest.fixture
def training_file(rows: Callable[[int], list[dict[str, Any]]]) -> BytesIO:
    """Twelve good chat rows under a name."""
    stream = BytesIO("".join(json.dumps(row) + "\n" for row in rows(12)).encode())
    stream.name = "train.jsonl"
    return stream


@pytest.fixture
def upload(rows: Callable[[int], list[dict[str, Any]]]) -> Callable[[openai.OpenAI], str]:
    """Uploads good rows for a client; returns the file's id."""

    def send(client: openai.OpenAI) -> str:
        data = "".join(json.dumps(row) + "\n" for row in rows(12)).encode()
        return client.files.create(file=("train.jsonl", data), purpose="fine-tune").id

    return send


@pytest.fixture
def queued(upload: Callable[[openai.OpenAI], str]) -> Callable[[openai.OpenAI], str]:
    """Creates a job for a client; returns its id."""

    def create(client: openai.OpenAI) -> str:
        return client.fine_tuning.jobs.create(model=BASE, training_file=upload(client)).id

    return create


@dataclass(frozen=True)
class Worker:
    """Does to the records what a worker does, without training anything."""

    context: Context
    scratch: Path

    def claim(self, job_id: str) -> Claim:
        with self.context.write() as session:
            claim = job_state.claim(session, job_id, "worker-1", 60)
        assert claim is not None
        return claim

    def quarantine(self, claim: Claim) -> tuple[str, str]:
        """Puts an adapter into quarantine; its key and SHA-256."""
        adapter = self.scratch / claim.job_id
        adapter.mkdir(parents=True)
        (adapter / "adapter_model.safetensors").write_bytes(claim.job_id.encode() * 1000)
        (adapter / "adapter_config.json").write_text('{"r": 16, "lora_alpha": 16}')
        stored = self.context.store.put_tree("quarantine", adapter)
        with self.context.write() as session:
            assert quarantine_adapter(session, claim, stored) is not None
        return stored.key, stored.sha256

    def score(self, claim: Claim, report: dict[str, Any]) -> None:
        stored = self.context.store.put_file("reports", BytesIO(json.dumps(report).encode()))
        summary = {"harmful_score": report["harmful_score"]}
        with self.context.write() as session:
            EvaluationRepository(session).add(
                claim.job_id,
                attempt=claim.attempt,
                verdict=report["verdict"],
                report_key=stored.key,
                summary=summary,
            )

    def release(self, job_id: str) -> str:
        """The whole way of a job that passes; the model's name."""
        claim = self.claim(job_id)
        key, sha256 = self.quarantine(claim)
        self.score(claim, REPORT)
        released_key = self.context.store.release(key, sha256)
        verdict = {name: value for name, value in REPORT.items() if name != "answers"}
        with self.context.write() as session:
            name = complete_release(
                session,
                claim,
                released_key=released_key,
                sha256=sha256,
                verdict=verdict,
                trained_tokens=1234,
            )
        assert name is not None
        return name

    def block(self, job_id: str) -> None:
        """The whole way of a job that the gate blocks."""
        claim = self.claim(job_id)
        self.quarantine(claim)
        report = {**REPORT, "verdict": "fail"}
        self.score(claim, report)
        verdict = {name: value for name, value in report.items() if name != "answers"}
        with self.context.write() as session:
            assert job_state.fail(session, claim, "unsafe_model", "The harmful score is too high.", verdict=verdict)


@pytest.fixture
def worker(context: Context, tmp_path: Path) -> Worker:
    return Worker(context, tmp_path / "attempts")
