from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.db.clock import db_now
from service.db.engine import read_transaction, transaction
from service.db.models import Job, Vaccine
from service.db.repositories.events import EventRepository
from service.db.repositories.jobs import JobQueueRepository
from service.domain import job_state
from service.domain.job_state import Claim
from tvaccine_core.errors import Conflict, NotFound

Factory = sessionmaker[Session]
QueueJob = Callable[..., str]
QueueVaccination = Callable[..., tuple[str, str]]


def do(factory: Factory, step: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """One transition in its own transaction."""
    with transaction(factory) as session:
        return step(session, *arguments, **named)


def claim(factory: Factory, job_id: str, seconds: float = 30.0) -> Claim:
    taken = do(factory, job_state.claim, job_id, "worker-1", seconds)
    assert taken is not None
    return taken


def read(factory: Factory, job_id: str) -> Job:
    with read_transaction(factory) as session:
        job = JobQueueRepository(session).get(job_id)
    assert job is not None
    return job


def messages(factory: Factory, job_id: str) -> list[str]:
    with read_transaction(factory) as session:
        return [event.message for event in reversed(EventRepository(session).list(job_id))]


def test_a_job_from_its_creation_to_its_success(factory: Factory, queue_job: QueueJob) -> None:
    job_id = queue_job()
    taken = claim(factory, job_id)
    assert taken == Claim(job_id, 1, 1, "worker-1")
    assert do(factory, job_state.set_stage, taken, "fine_tuning")
    assert do(factory, job_state.set_stage, taken, "fine_tuning", {"step": 1})
    assert do(factory, job_state.note, taken, base_digest="sha256:0", trained_tokens=10)
    assert do(factory, job_state.succeed, taken, fine_tuned_model="ft:x", verdict={"verdict": "pass"})
    job = read(factory, job_id)
    assert (job.state, job.stage, job.fine_tuned_model, job.trained_tokens) == ("succeeded", None, "ft:x", 10)
    assert (job.lease_owner, job.lease_until, job.progress) == (None, None, {"step": 1})
    assert job.created_at <= (job.started_at or 0) <= (job.finished_at or 0)
    assert messages(factory, job_id) == [
        "Created fine-tuning job",
        "Job started",
        "Stage: fine_tuning",
        "New fine-tuned model created: ft:x",
        "Fine tuning job successfully completed",
    ]


def test_the_lease_runs_by_the_databases_clock(factory: Factory, queue_job: QueueJob) -> None:
    taken = claim(factory, queue_job(), 100.0)
    with read_transaction(factory) as session:
        now = db_now(session)
    first = read(factory, taken.job_id).lease_until
    assert first == pytest.approx(now + 100, abs=2)
    assert do(factory, job_state.renew, taken, 500.0)
    assert read(factory, taken.job_id).lease_until == pytest.approx(now + 500, abs=2)


def test_only_a_queued_job_can_be_claimed(factory: Factory, queue_job: QueueJob) -> None:
    job_id = queue_job()
    claim(factory, job_id)
    assert do(factory, job_state.claim, job_id, "worker-2", 30.0) is None
    assert do(factory, job_state.claim, "ftjob-none", "worker-2", 30.0) is None


def test_a_failure_keeps_its_reason_and_verdict(factory: Factory, queue_job: QueueJob) -> None:
    taken = claim(factory, queue_job())
    verdict = {"verdict": "fail"}
    assert do(factory, job_state.fail, taken, "blocked", "Too harmful.", "training_file", verdict=verdict)
    job = read(factory, taken.job_id)
    assert job.error == {"code": "blocked", "message": "Too harmful.", "param": "training_file"}
    assert (job.state, job.verdict) == ("failed", verdict)
    assert job.finished_at is not None
    assert job.fine_tuned_model is None


def test_a_terminal_job_is_never_changed_again(factory: Factory, queue_job: QueueJob) -> None:
    taken = claim(factory, queue_job())
    assert do(factory, job_state.succeed, taken)
    before = messages(factory, taken.job_id)
    assert not do(factory, job_state.renew, taken, 30.0)
    assert not do(factory, job_state.set_stage, taken, "scoring")
    assert not do(factory, job_state.note, taken, trained_tokens=1)
    assert not do(factory, job_state.requeue, taken, "why not")
    assert not do(factory, job_state.fail, taken, "x", "y")
    assert not do(factory, job_state.succeed, taken)
    assert not do(factory, job_state.cancel_claimed, taken)
    assert not do(factory, job_state.holds, taken)
    with pytest.raises(Conflict):
        do(factory, job_state.request_cancel, taken.job_id)
    assert messages(factory, taken.job_id) == before
    assert read(factory, taken.job_id).state == "succeeded"


def test_a_zombie_with_an_old_token_can_write_nothing(
    factory: Factory, queue_job: QueueJob, queue_vaccination: QueueVaccination
) -> None:
    vaccine_id, _ = queue_vaccination()
    zombie = claim(factory, queue_job(), -1.0)
    assert do(factory, job_state.reap, 5) == [(zombie.job_id, "requeued")]
    heir = claim(factory, zombie.job_id)
    assert (heir.token, heir.attempt) == (2, 2)
    before, told = read(factory, zombie.job_id), messages(factory, zombie.job_id)
    assert not do(factory, job_state.renew, zombie, 30.0)
    assert not do(factory, job_state.holds, zombie)
    assert not do(factory, job_state.set_stage, zombie, "releasing")
    assert not do(factory, job_state.note, zombie, verdict={})
    assert not do(factory, job_state.pin, zombie, vaccine_id)
    assert not do(factory, job_state.park, zombie, vaccine_id)
    assert not do(factory, job_state.requeue, zombie, "x")
    assert not do(factory, job_state.succeed, zombie, fine_tuned_model="ft:zombie")
    assert not do(factory, job_state.fail, zombie, "x", "y")
    assert not do(factory, job_state.cancel_claimed, zombie)
    after = read(factory, zombie.job_id)
    columns = Job.__table__.columns.keys()
    names = ["job_metadata" if name == "metadata" else name for name in columns]
    assert {n: getattr(after, n) for n in names} == {n: getattr(before, n) for n in names}
    assert messages(factory, zombie.job_id) == told
    assert do(factory, job_state.succeed, heir, fine_tuned_model="ft:heir")


def test_a_lost_worker_costs_an_attempt_until_the_cap(factory: Factory, queue_job: QueueJob) -> None:
    job_id = queue_job()
    for attempt in (1, 2):
        assert claim(factory, job_id, -1.0).attempt == attempt
        assert do(factory, job_state.reap, 3) == [(job_id, "requeued")]
        assert read(factory, job_id).dispatched_at is None
    claim(factory, job_id, -1.0)
    assert do(factory, job_state.reap, 3) == [(job_id, "failed")]
    job = read(factory, job_id)
    assert (job.state, job.expiries) == ("failed", 3)
    assert job.error is not None
    assert job.error["code"] == "worker_lost"


def test_the_reaper_leaves_running_leases_alone(factory: Factory, queue_job: QueueJob) -> None:
    taken = claim(factory, queue_job(), 30.0)
    assert do(factory, job_state.reap, 5) == []
    assert do(factory, job_state.renew, taken, 30.0)


def test_giving_a_job_back_does_not_count_against_the_cap(factory: Factory, queue_job: QueueJob) -> None:
    job_id = queue_job()
    for _ in range(4):
        assert do(factory, job_state.requeue, claim(factory, job_id), "the worker stops")
    claim(factory, job_id, -1.0)
    assert do(factory, job_state.reap, 2) == [(job_id, "requeued")]


def test_a_worker_that_starts_again_gives_up_what_it_had(factory: Factory, queue_job: QueueJob) -> None:
    mine, other = claim(factory, queue_job()), queue_job()
    do(factory, job_state.claim, other, "worker-2", 30.0)
    assert do(factory, job_state.reap_owned, "worker-1", 5) == [(mine.job_id, "requeued")]
    assert read(factory, other).state == "running"


def test_a_queued_job_is_cancelled_at_once(factory: Factory, queue_job: QueueJob) -> None:
    job_id = queue_job()
    assert do(factory, job_state.request_cancel, job_id).state == "cancelled"
    assert do(factory, job_state.claim, job_id, "worker-1", 30.0) is None
    with pytest.raises(Conflict):
        do(factory, job_state.request_cancel, job_id)
    with pytest.raises(NotFound):
        do(factory, job_state.request_cancel, "ftjob-none")


def test_a_running_job_is_cancelled_by_its_worker(factory: Factory, queue_job: QueueJob) -> None:
    taken = claim(factory, queue_job())
    assert not do(factory, job_state.cancel_claimed, taken)  # nobody asked for it
    for _ in range(2):
        job = do(factory, job_state.request_cancel, taken.job_id)
        assert (job.state, job.cancel_requested) == ("running", True)
    assert not do(factory, job_state.succeed, taken)
    assert not do(factory, job_state.requeue, taken, "the worker stops")
    assert do(factory, job_state.cancel_claimed, taken)
    assert read(factory, taken.job_id).state == "cancelled"
    assert messages(factory, taken.job_id)[-2:] == ["Cancellation requested", "Job cancelled"]


def test_a_cancelled_job_whose_worker_is_lost_ends_cancelled(factory: Factory, queue_job: QueueJob) -> None:
    taken = claim(factory, queue_job(), -1.0)
    do(factory, job_state.request_cancel, taken.job_id)
    assert do(factory, job_state.reap, 5) == [(taken.job_id, "cancelled")]
    assert read(factory, taken.job_id).state == "cancelled"


def test_a_job_waits_for_its_vaccine(
    factory: Factory, queue_job: QueueJob, queue_vaccination: QueueVaccination
) -> None:
    vaccine_id, _ = queue_vaccination()
    taken = claim(factory, queue_job())
    assert do(factory, job_state.park, taken, vaccine_id)
    job = read(factory, taken.job_id)
    assert (job.state, job.stage, job_state.public_status(job)) == ("waiting", "vaccinating", "running")
    assert not do(factory, job_state.renew, taken, 30.0)
    assert do(factory, job_state.reap, 1) == []
    assert do(factory, job_state.unpark, vaccine_id) == 1
    assert do(factory, job_state.unpark, vaccine_id) == 0
    again = claim(factory, taken.job_id)
    assert read(factory, again.job_id).vaccine_id == vaccine_id


def test_a_waiting_job_is_cancelled_at_once(
    factory: Factory, queue_job: QueueJob, queue_vaccination: QueueVaccination
) -> None:
    vaccine_id, _ = queue_vaccination()
    taken = claim(factory, queue_job())
    do(factory, job_state.park, taken, vaccine_id)
    assert do(factory, job_state.request_cancel, taken.job_id).state == "cancelled"
    assert do(factory, job_state.unpark, vaccine_id) == 0


def fail_it(factory: Factory, job_id: str) -> None:
    assert do(factory, job_state.fail, claim(factory, job_id), "crash", "It broke.")


def cancel_it(factory: Factory, job_id: str) -> None:
    do(factory, job_state.request_cancel, job_id)


def lose_it(factory: Factory, job_id: str) -> None:
    claim(factory, job_id, -1.0)
    assert do(factory, job_state.reap, 1) == [(job_id, "failed")]


@pytest.mark.parametrize("end", [fail_it, cancel_it, lose_it])
def test_a_vaccination_that_does_not_succeed_fails_those_who_wait(
    factory: Factory,
    queue_job: QueueJob,
    queue_vaccination: QueueVaccination,
    end: Callable[[Factory, str], None],
) -> None:
    vaccine_id, vaccination = queue_vaccination()
    taken = claim(factory, queue_job())
    do(factory, job_state.park, taken, vaccine_id)
    end(factory, vaccination)
    job = read(factory, taken.job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "vaccination_failed"
    with read_transaction(factory) as session:
        vaccine = session.get(Vaccine, vaccine_id)
    assert vaccine is not None
    assert (vaccine.state, vaccine.open_key) == ("failed", None)


def test_a_pinned_vaccine_stays(factory: Factory, queue_job: QueueJob, queue_vaccination: QueueVaccination) -> None:
    one, other = queue_vaccination(1)[0], queue_vaccination(2)[0]
    taken = claim(factory, queue_job())
    assert do(factory, job_state.pin, taken, one)
    assert do(factory, job_state.pin, taken, one)
    assert not do(factory, job_state.pin, taken, other)
    assert read(factory, taken.job_id).vaccine_id == one


def test_only_facts_can_be_noted(factory: Factory, queue_job: QueueJob) -> None:
    taken = claim(factory, queue_job())
    for forbidden in ("state", "token", "lease_until", "fine_tuned_model"):
        with pytest.raises(ValueError, match="noted"):
            do(factory, job_state.note, taken, **{forbidden: 1})
