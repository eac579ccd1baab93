"""Vaccinations, for admins."""

from collections.abc import Callable
from typing import Any

import openai
import pytest
from fastapi import FastAPI

from api.context import Context
from service.domain import job_state
from service.vaccines import complete_vaccination
from tvaccine_core.alignment.methods import METHODS, alignment_config
from tvaccine_core.data.datasets import demo_file

BASE = "smollm2-135m-instruct"
PATH = "/admin/vaccinations"


@pytest.fixture
def data(admin: openai.OpenAI) -> dict[str, str]:
    """The demonstration data, of which two sets are uploaded; ids by role."""

    def send(name: str) -> str:
        return admin.files.create(file=(f"{name}.jsonl", demo_file(name)), purpose="user_data").id

    return {
        "alignment_file": send("alignment"),
        "harmful_file": "demo",
        "gate_prompts_file": send("gate_prompts"),
    }


def request(client: openai.OpenAI, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(PATH, body=body, cast_to=object)
    assert isinstance(answer, dict)
    return answer


def fetch(client: openai.OpenAI, path: str) -> dict[str, Any]:
    answer = client.get(path, cast_to=object)
    assert isinstance(answer, dict)
    return answer


@pytest.fixture
def finish(context: Context, worker: Any) -> Callable[[dict[str, Any]], None]:
    """Does what a worker does for a vaccination, without aligning anything."""

    def run(vaccination: dict[str, Any]) -> None:
        claim = worker.claim(vaccination["job_id"])
        with context.write() as session:
            assert complete_vaccination(
                session,
                context.settings,
                claim,
                storage_key="vaccines/01k9zzzzzzzzzzzzzzzzzzzzzz",
                sha256="0" * 64,
                base_digest="sha256:1",
                report={"steps": 80},
            )

    return run


def test_a_vaccination_is_queued_followed_and_activated(
    admin: openai.OpenAI,
    data: dict[str, str],
    finish: Callable[[dict[str, Any]], None],
    context: Context,
) -> None:
    made = request(admin, {"base": BASE, "method": "t_vaccine", "config": {"steps": 12, "seed": 3}, **data})
    assert (made["object"], made["state"], made["status"]) == ("vaccination", "making", "queued")
    assert (made["base"], made["version"], made["active"]) == (BASE, 1, False)
    assert (made["config"]["steps"], made["config"]["seed"]) == (12, 3)
    assert set(made["digests"]) == {"alignment", "harmful", "gate_prompts"}
    path = f"{PATH}/{made['id']}"
    with pytest.raises(openai.ConflictError) as refused:
        admin.post(f"{path}/activate", cast_to=object)
    assert refused.value.response.headers["x-should-retry"] == "false"
    finish(made)
    ready = fetch(admin, path)
    assert (ready["state"], ready["status"], ready["active"]) == ("ready", "succeeded", False)
    assert ready["report"] == {"steps": 80}
    active = admin.post(f"{path}/activate", cast_to=object)
    assert isinstance(active, dict)
    assert active["active"] is True
    events = fetch(admin, f"{path}/events")["data"]
    assert events[-1]["message"] == "Created vaccination job"


def test_the_same_vaccination_is_queued_once(admin: openai.OpenAI, data: dict[str, str]) -> None:
    first = request(admin, data)
    assert request(admin, data)["id"] == first["id"]
    assert request(admin, {**data, "activate": True})["activate_when_ready"] is True
    other = request(admin, {**data, "config": {"seed": 99}})
    assert other["version"] == 2
    listed = fetch(admin, PATH)
    assert [vaccine["id"] for vaccine in listed["data"]] == [other["id"], first["id"]]
    assert listed["has_more"] is False
    page = fetch(admin, f"{PATH}?limit=1")
    assert page["has_more"] is True
    rest = fetch(admin, f"{PATH}?limit=1&after={page['data'][0]['id']}")
    assert [vaccine["id"] for vaccine in rest["data"]] == [first["id"]]
    assert fetch(admin, f"{PATH}?base=org/other-base")["data"] == []


def test_a_new_active_vaccine_replaces_the_old_one(
    admin: openai.OpenAI, data: dict[str, str], finish: Callable[[dict[str, Any]], None]
) -> None:
    made = [request(admin, {**data, "config": {"seed": seed}, "activate": True}) for seed in (1, 2)]
    for vaccination in made:
        finish(vaccination)
    states = [fetch(admin, f"{PATH}/{vaccination['id']}")["active"] for vaccination in made]
    assert states == [False, True]


def test_jobs_show_their_vaccine(
    admin: openai.OpenAI,
    alice: openai.OpenAI,
    data: dict[str, str],
    finish: Callable[[dict[str, Any]], None],
    queued: Callable[[openai.OpenAI], str],
    worker: Any,
) -> None:
    made = request(admin, {**data, "activate": True})
    finish(made)
    job_id = queued(alice)
    worker.release(job_id)
    job = alice.fine_tuning.jobs.retrieve(job_id)
    assert job.model_extra is not None
    assert job.model_extra["vaccine"] == {"id": made["id"], "version": 1, "method": made["method"]}


def test_a_vaccination_can_be_cancelled(
    admin: openai.OpenAI, data: dict[str, str], context: Context, worker: Any
) -> None:
    made = request(admin, data)
    path = f"{PATH}/{made['id']}/cancel"
    cancelled = admin.post(path, cast_to=object)
    assert isinstance(cancelled, dict)
    assert (cancelled["state"], cancelled["status"]) == ("failed", "cancelled")
    with pytest.raises(openai.ConflictError):
        admin.post(path, cast_to=object)
    running = request(admin, {**data, "config": {"seed": 5}})
    claim = worker.claim(running["job_id"])
    admin.post(f"{PATH}/{running['id']}/cancel", cast_to=object)
    with context.write() as session:
        assert job_state.cancel_claimed(session, claim)
    assert fetch(admin, f"{PATH}/{running['id']}")["state"] == "failed"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"method": "magic"}, "method"),
        ({"config": {"method": "magic"}}, "method"),
        ({"method": "repnoise", "config": {"rho": 0.3}}, "rho"),
        ({"method": "repnoise", "config": {"batch_size": 1}}, "batch_size"),
        ({"method": "repnoise", "config": {"unpaired": "drop"}}, "harmful_file"),
        ({"config": {"stepz": 5}}, "stepz"),
        ({"config": {"steps": -1}}, "steps"),
        ({"alignment_file": "file-unknown"}, "alignment_file"),
        ({"files": {}}, "files"),
    ],
)
def test_a_wrong_field_is_named(admin: openai.OpenAI, data: dict[str, str], change: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        request(admin, {**data, **change})
    assert param in (refused.value.param or "")
    assert fetch(admin, PATH)["data"] == []


def test_overlapping_data_is_refused(admin: openai.OpenAI, data: dict[str, str]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        request(admin, {**data, "harmful_file": data["alignment_file"]})
    assert refused.value.code == "dataset_overlap"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_asked_for(admin: openai.OpenAI, data: dict[str, str], method: str) -> None:
    made = request(admin, {**data, "method": method, "config": {"steps": 7}})
    assert (made["method"], made["config"]["method"], made["config"]["steps"]) == (method, method, 7)
    assert alignment_config(made["config"]).to_dict() == made["config"]


def test_methods_that_train_on_harmful_rows_may_have_their_prompts_refused_as_well(
    admin: openai.OpenAI, data: dict[str, str]
) -> None:
    paired = {**data, "harmful_file": data["alignment_file"]}
    made = request(admin, {**paired, "method": "repnoise", "config": {"unpaired": "drop"}})
    assert made["config"]["unpaired"] == "drop"
    with pytest.raises(openai.BadRequestError) as refused:
        request(admin, {**paired, "method": "repnoise", "gate_prompts_file": data["alignment_file"]})
    assert refused.value.code == "dataset_overlap"


def test_the_document_names_the_methods(app: FastAPI) -> None:
    schema = app.openapi()["components"]["schemas"]["VaccinationCreate"]["properties"]["method"]
    named = [option["enum"] for option in schema["anyOf"] if "enum" in option]
    assert named == [list(METHODS)]


def test_an_unknown_base_or_vaccine_is_404(admin: openai.OpenAI, data: dict[str, str]) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        request(admin, {**data, "base": "no-such-base"})
    assert refused.value.code == "model_not_found"
    for path in ("", "/events"):
        with pytest.raises(openai.NotFoundError):
            fetch(admin, f"{PATH}/vac_unknown{path}")
    for path in ("/activate", "/cancel"):
        with pytest.raises(openai.NotFoundError):
            admin.post(f"{PATH}/vac_unknown{path}", cast_to=object)
