from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.artefacts.store import Stored
from service.db.engine import read_transaction, transaction
from service.db.models import Job
from service.db.repositories.adapters import AdapterRepository, AdminAdapterRepository
from service.db.repositories.audit import AdminAuditRepository
from service.db.repositories.checkpoints import CheckpointRepository
from service.db.repositories.evaluations import EvaluationRepository
from service.db.repositories.jobs import JobQueueRepository
from service.domain import job_state
from service.domain.job_state import Claim
from service.keys import ensure_project
from service.releases import complete_release, model_name, quarantine_adapter, withdraw_model

Factory = sessionmaker[Session]
QueueJob = Callable[..., str]
STORED = Stored("quarantine/" + "0" * 26, 10, "ab")
RELEASED = "released/" + "0" * 26


def claim(factory: Factory, job_id: str) -> Claim:
    with transaction(factory) as session:
        taken = job_state.claim(session, job_id, "worker", 30.0)
    assert taken is not None
    return taken


def scored(factory: Factory, queue_job: QueueJob) -> Claim:
    taken = claim(factory, queue_job(suffix="My model"))
    with transaction(factory) as session:
        assert quarantine_adapter(session, taken, STORED) is not None
    return taken


def test_a_released_adapter_has_a_name_and_only_then(factory: Factory, queue_job: QueueJob, project_id: str) -> None:
    taken = scored(factory, queue_job)
    with read_transaction(factory) as session:
        mine = AdapterRepository(session, project_id)
        waiting = mine.get_by_job(taken.job_id)
        assert waiting is not None
        assert (waiting.place, waiting.model_name) == ("quarantine", None)
        assert list(mine.list_released()) == []
    with transaction(factory) as session:
        name = complete_release(
            session, taken, released_key=RELEASED, sha256="ab", verdict={"verdict": "pass"}, trained_tokens=5
        )
    assert name == f"ft:tiny:{project_id}:My-model:{taken.job_id[-8:]}"
    with transaction(factory) as session:
        adapter = AdapterRepository(session, project_id).get_by_model(name)
        assert adapter is not None
        assert (adapter.place, adapter.storage_key) == ("released", RELEASED)
        assert adapter.released_at is not None
        job = JobQueueRepository(session).get(taken.job_id)
        assert job is not None
        assert (job.state, job.fine_tuned_model, job.trained_tokens) == ("succeeded", name, 5)
        other = AdapterRepository(session, ensure_project(session, "other").id)
        assert other.get_by_model(name) is None
        assert other.get_by_job(taken.job_id) is None
        assert list(other.list_released()) == []
        with pytest.raises(ValueError, match="released"):
            AdminAdapterRepository(session).put_in_quarantine(job, storage_key="x", sha256="y", size=1)


def test_a_withdrawn_model_is_gone_for_its_project(factory: Factory, queue_job: QueueJob, project_id: str) -> None:
    taken = scored(factory, queue_job)
    with transaction(factory) as session:
        name = complete_release(session, taken, released_key=RELEASED, sha256="ab", verdict={})
        assert name is not None
        stranger = ensure_project(session, "other").id
        assert withdraw_model(session, stranger, name, "key_1") is None
    with transaction(factory) as session:
        adapter = withdraw_model(session, project_id, name, "key_1")
        assert adapter is not None
        assert adapter.storage_key == RELEASED
        assert withdraw_model(session, project_id, name, "key_1") is None
        assert AdapterRepository(session, project_id).get_by_model("\x00") is None
        assert [entry.action for entry in AdminAuditRepository(session).list()] == ["model.delete"]


def test_other_weights_than_the_scored_ones_are_not_released(
    factory: Factory, queue_job: QueueJob, project_id: str
) -> None:
    taken = scored(factory, queue_job)
    with pytest.raises(ValueError, match="cd"), transaction(factory) as session:
        complete_release(session, taken, released_key=RELEASED, sha256="cd", verdict={})
    with read_transaction(factory) as session:
        job = JobQueueRepository(session).get(taken.job_id)
        assert job is not None
        assert (job.state, job.fine_tuned_model) == ("running", None)
        assert list(AdapterRepository(session, project_id).list_released()) == []


def test_a_cancelled_or_lost_job_releases_nothing(factory: Factory, queue_job: QueueJob, project_id: str) -> None:
    cancelled, lost = scored(factory, queue_job), scored(factory, queue_job)
    with transaction(factory) as session:
        job_state.request_cancel(session, cancelled.job_id)
        job_state.requeue(session, lost, "stop")
    for taken in (cancelled, lost):
        with transaction(factory) as session:
            assert complete_release(session, taken, released_key=RELEASED, sha256="ab", verdict={}) is None
    with transaction(factory) as session:
        assert quarantine_adapter(session, lost, STORED) is None
        assert list(AdapterRepository(session, project_id).list_released()) == []


def test_a_later_attempt_replaces_the_adapter_in_quarantine(factory: Factory, queue_job: QueueJob) -> None:
    taken = scored(factory, queue_job)
    with transaction(factory) as session:
        job_state.requeue(session, taken, "stop")
    again = claim(factory, taken.job_id)
    newer = Stored("quarantine/" + "1" * 26, 11, "ef")
    with transaction(factory) as session:
        assert quarantine_adapter(session, again, newer) is not None
    with read_transaction(factory) as session:
        adapter = AdminAdapterRepository(session).get_by_job(taken.job_id)
        assert adapter is not None
        assert (adapter.storage_key, adapter.sha256, adapter.bytes) == (newer.key, "ef", 11)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("org/model-1.5", "ft:org/model-1.5:proj_1::12345678"),
        ("/srv/models/mine", "ft:mine:proj_1::12345678"),
        ("./mine.gguf", "ft:mine.gguf:proj_1::12345678"),
        ("a:b c", "ft:a-b-c:proj_1::12345678"),
    ],
)
def test_a_name_shows_no_path_of_the_server(base: str, expected: str) -> None:
    assert model_name(Job(id="ftjob-12345678", base=base, project_id="proj_1", suffix=None)) == expected


def test_checkpoints_and_evaluations_of_a_job(factory: Factory, queue_job: QueueJob) -> None:
    job_id = queue_job()
    with transaction(factory) as session:
        checkpoints = CheckpointRepository(session)
        first = checkpoints.add(job_id, 1, {"train_loss": 2.0})
        assert checkpoints.add(job_id, 1, {"train_loss": 1.5}).id == first.id
        checkpoints.add(job_id, 2, {"train_loss": 1.0})
        assert {c.step: c.metrics["train_loss"] for c in checkpoints.list(job_id)} == {1: 1.5, 2: 1.0}
        evaluations = EvaluationRepository(session)
        assert evaluations.latest(job_id) is None
        evaluations.add(job_id, attempt=1, verdict="fail", report_key="reports/x", summary={})
        assert [e.verdict for e in evaluations.list(job_id)] == ["fail"]
