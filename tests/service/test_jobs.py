import io
import json
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.configurations import check_configurations, fine_tune_config
from service.db.engine import read_transaction, transaction
from service.db.models import Job
from service.db.repositories.jobs import JobQueueRepository, JobRepository
from service.domain import job_state
from service.files import delete_file, store_upload
from service.jobs import JobRequest, create_job
from service.keys import ensure_project
from service.settings import Settings
from tvaccine_core.errors import Conflict, InvalidRequest, NotFound, UnknownBase

Factory = sessionmaker[Session]
ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}


@pytest.fixture
def file_id(factory: Factory, settings: Settings, project_id: str) -> str:
    return make_file(factory, settings, project_id, "fine-tune")


def make_file(factory: Factory, settings: Settings, project_id: str, purpose: str) -> str:
    content = io.BytesIO((json.dumps(ROW) + "\n").encode() * 10)
    with transaction(factory) as session:
        file = store_upload(session, settings, project_id, filename="rows.jsonl", purpose=purpose, stream=content)
    return file.id


def create(factory: Factory, settings: Settings, project_id: str, file_id: str, **values: Any) -> Job:
    with transaction(factory) as session:
        request = JobRequest(**{"model": "tiny", "training_file": file_id, **values})
        return create_job(session, settings, project_id, request)


def test_a_job_is_queued_with_numbers_for_auto(
    factory: Factory, settings: Settings, project_id: str, file_id: str
) -> None:
    default = fine_tune_config(settings)
    job = create(
        factory,
        settings,
        project_id,
        file_id,
        seed=7,
        suffix="mine",
        metadata={"k": "v"},
        hyperparameters={"n_epochs": 2, "learning_rate_multiplier": 0.5},
    )
    assert (job.state, job.kind, job.base, job.seed, job.suffix) == (
        "queued",
        "fine_tuning",
        "tiny",
        7,
        "mine",
    )
    assert job.hyperparameters == {
        "n_epochs": 2,
        "batch_size": default.batch_size,
        "learning_rate_multiplier": 0.5,
    }
    assert job.config["epochs"] == 2
    assert job.config["learning_rate"] == pytest.approx(default.learning_rate / 2)
    assert (job.config["seed"], job.config["save_every"]) == (7, settings.save_every)
    assert job.method == {"type": "supervised", "supervised": {"hyperparameters": job.hyperparameters}}
    assert (job.job_metadata, job.fine_tuned_model, job.vaccine_id) == ({"k": "v"}, None, None)
    with read_transaction(factory) as session:
        assert JobQueueRepository(session).due(job.created_at + 1) == [job.id]


def test_a_seed_is_drawn_when_none_is_given(
    factory: Factory, settings: Settings, project_id: str, file_id: str
) -> None:
    seeds = {create(factory, settings, project_id, file_id).seed for _ in range(3)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("base", ["gpt-4o", "", "TINY", "ft:tiny:team:x:1", "x" * 1000])
def test_only_offered_bases_are_tuned(
    factory: Factory, settings: Settings, project_id: str, file_id: str, base: str
) -> None:
    with pytest.raises(UnknownBase) as caught:
        create(factory, settings, project_id, file_id, model=base)
    assert (caught.value.status, caught.value.param) == (404, "model")
    assert "tiny" in caught.value.message


def test_files_must_be_there_and_of_the_right_purpose(
    factory: Factory, settings: Settings, project_id: str, file_id: str
) -> None:
    with transaction(factory) as session:
        stranger = ensure_project(session, "stranger").id
    other = make_file(factory, settings, project_id, "user_data")
    gone = make_file(factory, settings, project_id, "fine-tune")
    with transaction(factory) as session:
        delete_file(session, project_id, gone)
    for bad in (
        other,
        gone,
        "file-none",
        "\x00",
        "x" * 1000,
        make_file(factory, settings, stranger, "fine-tune"),
    ):
        for field in ("training_file", "validation_file"):
            with pytest.raises(InvalidRequest if bad == other else NotFound) as caught:
                create(factory, settings, project_id, file_id, **{field: bad})
            assert caught.value.param == field
            assert caught.value.code == ("wrong_purpose" if bad == other else "file_not_found")
    assert create(factory, settings, project_id, file_id, validation_file=file_id).validation_file == file_id


def test_a_repeated_key_gives_the_first_job(
    factory: Factory, settings: Settings, project_id: str, file_id: str
) -> None:
    first = create(factory, settings, project_id, file_id, idempotency_key="k", suffix="a")
    with transaction(factory) as session:
        job_state.request_cancel(session, first.id)
    assert create(factory, settings, project_id, file_id, idempotency_key="k", suffix="a").id == first.id
    with pytest.raises(Conflict) as caught:
        create(factory, settings, project_id, file_id, idempotency_key="k", suffix="b")
    assert caught.value.code == "idempotency_key_reused"
    assert create(factory, settings, project_id, file_id, suffix="a").id != first.id
    with transaction(factory) as session:
        stranger = ensure_project(session, "stranger").id
    theirs = make_file(factory, settings, stranger, "fine-tune")
    assert create(factory, settings, stranger, theirs, idempotency_key="k").id != first.id


def test_one_job_for_requests_at_the_same_moment(
    factory: Factory, settings: Settings, project_id: str, file_id: str
) -> None:
    barrier, made = Barrier(4), []

    def ask() -> None:
        barrier.wait()
        made.append(create(factory, settings, project_id, file_id, idempotency_key="k").id)

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(made) == 4
    assert len(set(made)) == 1


def test_a_file_cannot_be_deleted_under_a_new_job(
    factory: Factory, settings: Settings, project_id: str, file_id: str
) -> None:
    barrier, results = Barrier(2), {}

    def run(name: str, step: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            results[name] = step()
        except (InvalidRequest, Conflict, NotFound) as error:
            results[name] = error

    def delete() -> Any:
        with transaction(factory) as session:
            return delete_file(session, project_id, file_id)

    steps = {"create": lambda: create(factory, settings, project_id, file_id), "delete": delete}
    threads = [Thread(target=run, args=item) for item in steps.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert isinstance(results["delete"], Conflict) != isinstance(results["create"], NotFound), results


def test_jobs_are_listed_for_their_project_only(
    factory: Factory,
    settings: Settings,
    project_id: str,
    file_id: str,
    queue_vaccination: Callable[..., tuple[str, str]],
) -> None:
    tagged = create(factory, settings, project_id, file_id, metadata={"a.b": "1", "x": ""})
    plain = create(factory, settings, project_id, file_id)
    _, vaccination = queue_vaccination()
    with transaction(factory) as session:
        other = JobRepository(session, ensure_project(session, "other").id)
        assert list(other.list()) == []
        assert other.get(plain.id) is None
        mine = JobRepository(session, project_id)
        assert {job.id for job in mine.list()} == {tagged.id, plain.id}
        assert mine.get(vaccination) is None
        assert mine.get("\x00") is None
        assert [job.id for job in mine.list(metadata={"a.b": "1"})] == [tagged.id]
        assert [job.id for job in mine.list(metadata={"a.b": "1", "x": ""})] == [tagged.id]
        for metadata in ({"a.b": "2"}, {"a": "1"}, {"x": "1"}, {"\x00": "x"}, {'"': "x"}):
            assert list(mine.list(metadata=metadata)) == []
        assert [job.id for job in mine.list(without_metadata=True)] == [plain.id]
        with pytest.raises(InvalidRequest):
            mine.list(after=vaccination)
        assert mine.queue_position(plain) == 2


def test_settings_that_no_job_could_run_with_are_found_at_the_start(settings: Settings) -> None:
    check_configurations(settings)
    for name, values in (
        ("fine_tune", {"epochs": 0}),
        ("vaccine", {"rho": -1}),
        ("gate", {"limit": 101}),
        ("gate", {"skip_gate": True}),
        ("vaccine", {"unknown": 1}),
    ):
        with pytest.raises(InvalidRequest, match=f"TVACCINE_{name.upper()}"):
            check_configurations(settings.model_copy(update={name: values}))
