import io
import json
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from service import vaccines
from service.artefacts.store import ArtefactStore
from service.db.engine import read_transaction, transaction
from service.db.models import Job, Vaccine
from service.db.repositories.audit import AdminAuditRepository
from service.db.repositories.jobs import JobQueueRepository
from service.db.repositories.vaccines import AdminVaccineRepository
from service.domain import job_state
from service.domain.job_state import Claim
from service.files import delete_file, purge, store_upload
from service.settings import Settings
from tvaccine_core.data.datasets import demo_file
from tvaccine_core.errors import (
    Conflict,
    DatasetOverlap,
    InvalidRequest,
    NotFound,
    TVaccineError,
    UnknownBase,
)

Factory = sessionmaker[Session]
QueueJob = Callable[..., str]


def request(factory: Factory, settings: Settings, **values: Any) -> tuple[Vaccine, Job]:
    with transaction(factory) as session:
        return vaccines.request_vaccination(session, settings, values.pop("base", "tiny"), **values)


def claim(factory: Factory, job_id: str) -> Claim:
    with transaction(factory) as session:
        taken = job_state.claim(session, job_id, "worker", 30.0)
    assert taken is not None
    return taken


def complete(factory: Factory, settings: Settings, job_id: str, **values: Any) -> None:
    with transaction(factory) as session:
        taken = job_state.claim(session, job_id, "worker", 30.0)
        assert taken is not None
        assert vaccines.complete_vaccination(
            session,
            settings,
            taken,
            storage_key="vaccines/" + "0" * 26,
            sha256="ab",
            base_digest="sha256:cd",
            report={"steps": 1},
            **values,
        )


def read(factory: Factory, vaccine_id: str) -> Vaccine:
    with read_transaction(factory) as session:
        vaccine = AdminVaccineRepository(session).get(vaccine_id)
    assert vaccine is not None
    return vaccine


def job(factory: Factory, job_id: str) -> Job:
    with read_transaction(factory) as session:
        found = JobQueueRepository(session).get(job_id)
    assert found is not None
    return found


def put(factory: Factory, settings: Settings, project_id: str, lines: list[Any]) -> str:
    content = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines).encode()
    with transaction(factory) as session:
        file = store_upload(
            session, settings, project_id, filename="x.jsonl", purpose="user_data", stream=io.BytesIO(content)
        )
    return file.id


def test_a_vaccination_from_its_request_to_its_use(
    factory: Factory, settings: Settings, store: ArtefactStore, queue_job: QueueJob
) -> None:
    vaccine, made_by = request(factory, settings, method="sft", config={"steps": 3}, activate=True)
    assert (vaccine.version, vaccine.state, vaccine.active, vaccine.method) == (1, "making", False, "sft")
    assert (made_by.kind, made_by.vaccine_id, vaccine.job_id) == ("vaccination", vaccine.id, made_by.id)
    assert made_by.config["steps"] == vaccine.config["steps"] == 3
    assert store.read(vaccine.files["gate_prompts"]) == demo_file("gate_prompts").read_bytes()
    assert set(vaccine.digests) == {"alignment", "harmful", "gate_prompts"}
    assert all(digest.startswith("sha256:") for digest in vaccine.digests.values())
    complete(factory, settings, made_by.id)
    ready = read(factory, vaccine.id)
    assert (ready.state, ready.active, ready.open_key, ready.sha256) == ("ready", True, None, "ab")
    assert (ready.base_digest, ready.report) == ("sha256:cd", {"steps": 1})
    assert job(factory, made_by.id).state == "succeeded"
    user = claim(factory, queue_job())
    assert job(factory, user.job_id).vaccine_id == vaccine.id
    with read_transaction(factory) as session:
        actions = [entry.action for entry in AdminAuditRepository(session).list()]
    assert sorted(actions) == ["vaccine.activate", "vaccine.request"]


def test_a_vaccine_is_only_activated_when_somebody_wants_it(factory: Factory, settings: Settings) -> None:
    first, first_job = request(factory, settings)
    complete(factory, settings, first_job.id)
    assert not read(factory, first.id).active
    second, _ = request(factory, settings)
    assert (second.version, second.id != first.id) == (2, True)
    again, _ = request(factory, settings, activate=True)
    assert again.id == second.id
    assert read(factory, second.id).activate_when_ready


def test_the_same_open_vaccination_is_shared(factory: Factory, settings: Settings) -> None:
    first, first_job = request(factory, settings)
    same, same_job = request(factory, settings)
    other, _ = request(factory, settings, config={"steps": 2})
    elsewhere, _ = request(factory, settings, base="other")
    assert (first.id, first_job.id) == (same.id, same_job.id)
    assert len({first.id, other.id, elsewhere.id}) == 3
    assert (other.version, elsewhere.version) == (2, 1)


def test_requests_at_the_same_moment_share_one_vaccination(factory: Factory, settings: Settings) -> None:
    barrier, made = Barrier(3), []

    def ask() -> None:
        barrier.wait()
        with transaction(factory) as session:
            made.append(vaccines.ensure_vaccine(session, settings, "tiny").id)

    threads = [Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(made) == 3
    assert len(set(made)) == 1


def test_jobs_wait_for_one_vaccine_and_keep_it(factory: Factory, settings: Settings, queue_job: QueueJob) -> None:
    claims = [claim(factory, queue_job()) for _ in range(2)]
    for taken in claims:
        with transaction(factory) as session:
            assert vaccines.take_vaccine(session, settings, taken) is None
    vaccine_id = job(factory, claims[0].job_id).vaccine_id
    assert [job(factory, taken.job_id).state for taken in claims] == ["waiting", "waiting"]
    assert job(factory, claims[1].job_id).vaccine_id == vaccine_id
    assert vaccine_id is not None
    complete(factory, settings, str(read(factory, vaccine_id).job_id))
    newer, newer_job = request(factory, settings, config={"steps": 2}, activate=True)
    complete(factory, settings, newer_job.id)
    assert read(factory, newer.id).active
    assert not read(factory, vaccine_id).active
    again = claim(factory, claims[0].job_id)
    with transaction(factory) as session:
        used = vaccines.take_vaccine(session, settings, again)
        assert used is not None
        assert used.id == vaccine_id


def test_a_vaccine_that_became_active_after_the_claim_is_pinned(
    factory: Factory, settings: Settings, queue_job: QueueJob
) -> None:
    taken = claim(factory, queue_job())
    vaccine, made_by = request(factory, settings, activate=True)
    complete(factory, settings, made_by.id)
    with transaction(factory) as session:
        assert vaccines.take_vaccine(session, settings, taken) is not None
    assert job(factory, taken.job_id).vaccine_id == vaccine.id


def test_a_lost_or_cancelled_job_gets_no_vaccine(factory: Factory, settings: Settings, queue_job: QueueJob) -> None:
    vaccine, made_by = request(factory, settings, activate=True)
    complete(factory, settings, made_by.id)
    taken = claim(factory, queue_job())
    with transaction(factory) as session:
        job_state.requeue(session, taken, "stop")
        assert vaccines.take_vaccine(session, settings, taken) is None
    with transaction(factory) as session:
        vaccines.deactivate(session, vaccine.id, "key_1")
    cancelled = claim(factory, queue_job())
    with transaction(factory) as session:
        job_state.request_cancel(session, cancelled.job_id)
        assert vaccines.take_vaccine(session, settings, cancelled) is None
    assert job(factory, cancelled.job_id).state == "running"


def test_waiting_jobs_are_settled_even_if_nobody_told_them(
    factory: Factory,
    settings: Settings,
    queue_job: QueueJob,
    queue_vaccination: Callable[..., tuple[str, str]],
) -> None:
    ready, ready_job = queue_vaccination(1)
    failed, failed_job = queue_vaccination(2)
    open_vaccine, _ = queue_vaccination(3)
    claims = [claim(factory, queue_job()) for _ in range(3)]
    complete(factory, settings, ready_job)
    with transaction(factory) as session:
        job_state.request_cancel(session, failed_job)
    for taken, vaccine_id in zip(claims, (ready, failed, open_vaccine), strict=True):
        with transaction(factory) as session:
            assert job_state.park(session, taken, vaccine_id)
    with transaction(factory) as session:
        assert vaccines.settle_waiting(session) == 2
        assert vaccines.settle_waiting(session) == 0
    assert [job(factory, taken.job_id).state for taken in claims] == ["queued", "failed", "waiting"]


def test_a_cancelled_vaccination_is_not_completed(factory: Factory, settings: Settings) -> None:
    vaccine, made_by = request(factory, settings, activate=True)
    taken = claim(factory, made_by.id)
    with transaction(factory) as session:
        job_state.request_cancel(session, made_by.id)
    with transaction(factory) as session:
        assert not vaccines.complete_vaccination(
            session, settings, taken, storage_key="vaccines/" + "0" * 26, sha256="ab", base_digest="x", report={}
        )
        assert job_state.cancel_claimed(session, taken)
    assert read(factory, vaccine.id).state == "failed"
    fresh, _ = request(factory, settings, activate=True)
    assert fresh.version == 2


def test_one_vaccine_a_base_is_active(factory: Factory, settings: Settings) -> None:
    made = []
    for steps, base in ((1, "tiny"), (2, "tiny"), (1, "other")):
        vaccine, made_by = request(factory, settings, base=base, config={"steps": steps})
        complete(factory, settings, made_by.id)
        made.append(vaccine.id)
    unready, _ = request(factory, settings, config={"steps": 9})
    for vaccine_id in (*made, made[0]):
        with transaction(factory) as session:
            assert vaccines.activate(session, settings, vaccine_id, "key_1").active
    assert [read(factory, vaccine_id).active for vaccine_id in made] == [True, False, True]
    with transaction(factory) as session:
        with pytest.raises(Conflict):
            vaccines.activate(session, settings, unready.id, "key_1")
        with pytest.raises(Conflict):
            vaccines.deactivate(session, made[1], "key_1")
        with pytest.raises(NotFound):
            vaccines.activate(session, settings, "vac_none", "key_1")
        assert not vaccines.deactivate(session, made[0], "key_1").active
        assert AdminVaccineRepository(session).active("tiny") is None
        assert len(AdminVaccineRepository(session).list("tiny")) == 3
    with transaction(factory) as session:  # the database would not have it otherwise
        for vaccine_id in made[:2]:
            found = session.get(Vaccine, vaccine_id)
            assert found is not None
            found.active = True
        with pytest.raises(IntegrityError):
            session.flush()


def test_activations_at_the_same_moment_leave_one(factory: Factory, settings: Settings) -> None:
    made = []
    for steps in (1, 2, 3):
        vaccine, made_by = request(factory, settings, config={"steps": steps})
        complete(factory, settings, made_by.id)
        made.append(vaccine.id)
    barrier, errors = Barrier(3), []

    def run(vaccine_id: str) -> None:
        barrier.wait()
        try:
            with transaction(factory) as session:
                vaccines.activate(session, settings, vaccine_id, "key_1")
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=run, args=(vaccine_id,)) for vaccine_id in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert sum(read(factory, vaccine_id).active for vaccine_id in made) == 1


def test_an_operators_files_are_kept_although_he_deletes_them(
    factory: Factory, settings: Settings, project_id: str, store: ArtefactStore
) -> None:
    prompts = [{"prompt": f"Unheard number{n} of colour{n}"} for n in range(48)]
    file_id = put(factory, settings, project_id, prompts)
    files = {"gate_prompts": file_id, "alignment": "demo", "harmful": None}
    vaccine, _ = request(factory, settings, files=files, project_id=project_id)
    with transaction(factory) as session:
        delete_file(session, project_id, file_id)
    assert purge(factory, settings) == 1
    kept = store.read(vaccine.files["gate_prompts"]).decode().splitlines()
    assert [json.loads(line) for line in kept] == prompts


def test_files_from_the_settings_are_used(factory: Factory, settings: Settings, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_bytes(b"".join(demo_file("alignment").read_bytes().splitlines(keepends=True)[:20]))
    changed = settings.model_copy(update={"alignment_file": own})
    assert request(factory, changed)[0].digests["alignment"] != request(factory, settings)[0].digests["alignment"]
    with pytest.raises(InvalidRequest) as caught:
        request(factory, settings.model_copy(update={"alignment_file": tmp_path / "none.jsonl"}))
    assert caught.value.param == "alignment_file"


def test_prompts_in_two_sets_are_refused(factory: Factory, settings: Settings, project_id: str) -> None:
    gate = demo_file("gate_prompts").read_text().splitlines(keepends=True)
    row = {
        "messages": [
            {"role": "user", "content": json.loads(gate[5])["prompt"].upper() + "!"},
            {"role": "assistant", "content": "No."},
        ]
    }
    for role in ("alignment", "harmful"):
        with pytest.raises(DatasetOverlap) as caught:
            request(
                factory,
                settings,
                files={role: put(factory, settings, project_id, [row])},
                project_id=project_id,
            )
        assert caught.value.details[0]["file"] == role
        assert caught.value.details[0]["other_line"] == 6


@pytest.mark.parametrize(
    ("role", "lines"),
    [
        ("alignment", [{"prompt": "no answer"}]),
        ("harmful", ["no json\n"]),
        ("gate_prompts", [{"prompt": ""}]),
        ("gate_prompts", [{"prompt": "only one of them"}]),
    ],
)
def test_faulty_files_are_named_by_their_role(
    factory: Factory, settings: Settings, project_id: str, role: str, lines: list[Any]
) -> None:
    with pytest.raises(TVaccineError) as caught:
        request(factory, settings, files={role: put(factory, settings, project_id, lines)}, project_id=project_id)
    assert caught.value.status == 400
    assert caught.value.param == f"{role}_file"
    assert role in caught.value.message


def test_requests_that_cannot_be_met(factory: Factory, settings: Settings, project_id: str) -> None:
    with pytest.raises(UnknownBase):
        request(factory, settings, base="none")
    for values, param in (
        ({"method": "magic"}, "method"),
        ({"config": {"rho": "x"}}, "rho"),
        ({"config": {"what": 1}}, "what"),
        ({"files": {"other": "demo"}}, "other_file"),
        ({"files": {"harmful": "file-none"}}, "harmful_file"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            request(factory, settings, project_id=project_id, **values)
        assert caught.value.param == param
    with read_transaction(factory) as session:
        assert list(AdminVaccineRepository(session).list()) == []
