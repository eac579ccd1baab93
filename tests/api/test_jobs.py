"""Fine-tuning jobs through the official client."""

from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from starlette.testclient import TestClient

from api.context import Context
from service.domain import job_state

BASE = "smollm2-135m-instruct"
Upload = Callable[[openai.OpenAI], str]


def extras(job: FineTuningJob) -> dict[str, Any]:
    assert job.model_extra is not None
    return job.model_extra


def test_a_new_job_has_every_field(alice: openai.OpenAI, upload: Upload) -> None:
    file = upload(alice)
    job = alice.fine_tuning.jobs.create(
        model=BASE,
        training_file=file,
        validation_file=file,
        suffix="my-tune",
        seed=7,
        metadata={"team": "blue"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}},
        },
    )
    raw = alice.fine_tuning.jobs.with_raw_response.retrieve(job.id)
    required = {"id", "object", "created_at", "finished_at", "model", "fine_tuned_model", "organization_id"}
    required |= {"status", "training_file", "validation_file", "result_files", "trained_tokens", "seed"}
    required |= {"hyperparameters", "error"}
    assert required <= set(raw.http_response.json())
    assert (job.object, job.status, job.model, job.seed) == ("fine_tuning.job", "queued", BASE, 7)
    assert (job.training_file, job.validation_file, job.result_files) == (file, file, [])
    assert (job.finished_at, job.fine_tuned_model, job.error, job.trained_tokens) == (None,) * 4
    assert job.hyperparameters.n_epochs == 2
    assert isinstance(job.hyperparameters.batch_size, int)
    assert job.method is not None
    assert job.method.type == "supervised"
    assert job.metadata == {"team": "blue"}
    assert job.organization_id.startswith("proj_")
    assert extras(job)["queue_position"] == 1
    assert extras(job)["attempt"] == 0
    assert extras(job)["safety"]["verdict"] is None
    assert raw.parse() == job


def test_the_older_hyperparameters_are_understood(alice: openai.OpenAI, upload: Upload) -> None:
    job = alice.fine_tuning.jobs.create(
        model=BASE, training_file=upload(alice), hyperparameters={"n_epochs": 1, "batch_size": 2}
    )
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (1, 2)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"training_file": None}, "training_file"),
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"seed": -1}, "seed"),
        ({"seed": 2147483648}, "seed"),
        ({"seed": True}, "seed"),
        ({"suffix": ""}, "suffix"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"suffix": "a:b"}, "suffix"),
        ({"suffix": "\x00"}, "suffix"),
        ({"metadata": {"k": 5}}, "metadata.k"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": "\x00"}}, "metadata"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": True}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size"),
        ({"hyperparameters": {"batch_size": 1.5}}, "hyperparameters.batch_size"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier"),
        ({"hyperparameters": {"epochs": 3}}, "hyperparameters.epochs"),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 0}}}},
            "method.supervised.hyperparameters.batch_size",
        ),
        ({"method": {"type": "dpo", "dpo": {}}}, "method.type"),
        ({"method": {"type": "magic"}}, "method.type"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"integrations": [{"type": "wandb"}]}, "integrations.0.wandb"),
        ({"vaccinate": False}, "vaccinate"),
    ],
)
def test_a_wrong_field_is_named(alice: openai.OpenAI, upload: Upload, change: dict[str, Any], param: str) -> None:
    body = {"model": BASE, "training_file": upload(alice), **change}
    body = {name: value for name, value in body.items() if value is not None}
    with pytest.raises(openai.BadRequestError) as refused:
        alice.post("/fine_tuning/jobs", body=body, cast_to=object)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert alice.fine_tuning.jobs.list().data == []


def test_not_a_number_is_refused(http: TestClient, new_key: Callable[..., str]) -> None:
    body = '{"model": "m", "training_file": "f", "hyperparameters": {"learning_rate_multiplier": NaN}}'
    headers = {"authorization": f"Bearer {new_key('alpha')}", "content-type": "application/json"}
    answer = http.post("/v1/fine_tuning/jobs", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "hyperparameters.learning_rate_multiplier"


def test_an_unknown_base_is_404(alice: openai.OpenAI, upload: Upload) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        alice.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=upload(alice))
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert BASE in refused.value.message


def test_a_file_of_another_project_is_404(alice: openai.OpenAI, bob: openai.OpenAI, upload: Upload) -> None:
    theirs, mine = upload(bob), upload(alice)
    with pytest.raises(openai.NotFoundError) as refused:
        alice.fine_tuning.jobs.create(model=BASE, training_file=theirs)
    assert refused.value.param == "training_file"
    with pytest.raises(openai.NotFoundError) as refused:
        alice.fine_tuning.jobs.create(model=BASE, training_file=mine, validation_file=theirs)
    assert refused.value.param == "validation_file"
    assert alice.fine_tuning.jobs.list().data == []


def test_a_file_with_another_purpose_is_refused(alice: openai.OpenAI) -> None:
    file = alice.files.create(file=("notes.txt", b"not rows"), purpose="user_data")
    with pytest.raises(openai.BadRequestError) as refused:
        alice.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    assert refused.value.param == "training_file"


def test_the_same_idempotency_key_gives_the_same_job(alice: openai.OpenAI, upload: Upload) -> None:
    file, headers = upload(alice), {"Idempotency-Key": "once"}
    first = alice.fine_tuning.jobs.create(model=BASE, training_file=file, extra_headers=headers)
    again = alice.fine_tuning.jobs.create(model=BASE, training_file=file, extra_headers=headers)
    assert again.id == first.id
    other = alice.fine_tuning.jobs.create(model=BASE, training_file=file)
    assert other.id != first.id
    with pytest.raises(openai.ConflictError) as refused:
        alice.fine_tuning.jobs.create(model=BASE, training_file=file, seed=1, extra_headers=headers)
    assert refused.value.code == "idempotency_key_reused"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(alice.fine_tuning.jobs.list().data) == 2


def test_a_second_cancellation_is_a_conflict_that_is_not_repeated(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str]
) -> None:
    job_id = queued(alice)
    job = alice.fine_tuning.jobs.cancel(job_id)
    assert job.status == "cancelled"
    assert job.finished_at is not None
    sent: list[object] = []
    alice._client.event_hooks["request"].append(sent.append)
    with pytest.raises(openai.ConflictError) as refused:
        alice.fine_tuning.jobs.cancel(job_id)
    assert len(sent) == 1
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert alice.fine_tuning.jobs.retrieve(job_id).status == "cancelled"


def test_a_running_job_is_cancelled_by_its_worker(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any, context: Context
) -> None:
    job_id = queued(alice)
    claim = worker.claim(job_id)
    assert alice.fine_tuning.jobs.cancel(job_id).status == "running"
    assert alice.fine_tuning.jobs.cancel(job_id).status == "running"
    with context.write() as session:
        assert job_state.cancel_claimed(session, claim)
    assert alice.fine_tuning.jobs.retrieve(job_id).status == "cancelled"


def test_pausing_is_refused_in_plain_words(alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str]) -> None:
    job_id = queued(alice)
    sent: list[object] = []
    alice._client.event_hooks["request"].append(sent.append)
    for act in (alice.fine_tuning.jobs.pause, alice.fine_tuning.jobs.resume):
        with pytest.raises(openai.ConflictError) as refused:
            act(job_id)
        assert refused.value.code == "pause_not_supported"
        assert "cancel" in refused.value.message
        with pytest.raises(openai.NotFoundError):
            act("ftjob-unknown")
    assert len(sent) == 4
    assert alice.fine_tuning.jobs.retrieve(job_id).status == "queued"


def test_status_has_openais_words_only_and_progress_is_an_extra(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any, context: Context
) -> None:
    job_id = queued(alice)
    second = queued(alice)
    assert extras(alice.fine_tuning.jobs.retrieve(second))["queue_position"] == 2
    claim = worker.claim(job_id)
    for stage in ("screening", "vaccinating", "fine_tuning", "scoring", "repairing", "releasing"):
        with context.write() as session:
            assert job_state.set_stage(session, claim, stage, {"step": 3, "total": 12, "seconds_remaining": 40.5})
        job = alice.fine_tuning.jobs.retrieve(job_id)
        assert job.status == "running"
        assert extras(job)["progress"] == {
            "stage": stage,
            "step": 3,
            "total": 12,
            "percent": 25.0,
            "seconds_remaining": 40.5,
        }
        assert extras(job)["safety"]["stage"] == stage
    assert extras(job)["queue_position"] is None
    assert extras(job)["attempt"] == 1
    assert extras(alice.fine_tuning.jobs.retrieve(second))["queue_position"] == 1


def test_a_released_job_names_its_model_and_verdict(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any
) -> None:
    job_id = queued(alice)
    name = worker.release(job_id)
    job = alice.fine_tuning.jobs.retrieve(job_id)
    assert (job.status, job.fine_tuned_model, job.trained_tokens) == ("succeeded", name, 1234)
    assert job.finished_at is not None
    assert extras(job)["progress"] is None
    assert extras(job)["safety"]["verdict"] == "pass"
    assert extras(job)["safety"]["harmful_score"]["percent"] == 2.1
    assert "forbidden" not in job.to_json()


def test_a_blocked_job_has_failed_and_says_why(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any
) -> None:
    job_id = queued(alice)
    worker.block(job_id)
    job = alice.fine_tuning.jobs.retrieve(job_id)
    assert (job.status, job.fine_tuned_model) == ("failed", None)
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("unsafe_model", None)
    assert extras(job)["safety"]["verdict"] == "fail"
