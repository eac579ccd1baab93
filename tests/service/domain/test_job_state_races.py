"""Threads that want the same job at the same moment: exactly one gets it."""

from collections.abc import Callable
from functools import partial
from threading import Barrier, Thread
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.db.engine import read_transaction, transaction
from service.db.repositories.events import EventRepository
from service.db.repositories.jobs import JobQueueRepository
from service.domain import job_state
from service.domain.job_state import Claim
from tvaccine_core.errors import Conflict

Factory = sessionmaker[Session]
QueueJob = Callable[..., str]
ROUNDS = 8


def at_once(factory: Factory, *steps: Callable[[Session], Any]) -> list[Any]:
    """Run each step in a thread and a transaction of its own, all at one moment; their results or errors."""
    barrier, results = Barrier(len(steps)), [None] * len(steps)

    def run(place: int, step: Callable[[Session], Any]) -> None:
        barrier.wait()
        try:
            with transaction(factory) as session:
                results[place] = step(session)
        except Exception as error:
            results[place] = error

    threads = [Thread(target=run, args=pair) for pair in enumerate(steps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


def state_and_events(factory: Factory, job_id: str) -> tuple[str, list[int], list[str]]:
    with read_transaction(factory) as session:
        job = JobQueueRepository(session).get(job_id)
        events = EventRepository(session).list(job_id, limit=1000)
    assert job is not None
    return job.state, [event.seq for event in reversed(events)], [event.message for event in events]


def claimed(factory: Factory, job_id: str, seconds: float = 30.0) -> Claim:
    with transaction(factory) as session:
        taken = job_state.claim(session, job_id, "worker", seconds)
    assert taken is not None
    return taken


def test_two_claimers_one_winner(factory: Factory, queue_job: QueueJob) -> None:
    def race(job_id: str) -> None:
        results = at_once(
            factory, *[lambda s, owner=f"w{n}": job_state.claim(s, job_id, owner, 30.0) for n in range(4)]
        )
        winners = [result for result in results if result is not None]
        assert len(winners) == 1, results
        assert winners[0].token == winners[0].attempt == 1

    for _ in range(ROUNDS):
        race(queue_job())


def test_cancel_against_success_one_winner(factory: Factory, queue_job: QueueJob) -> None:
    def race(taken: Claim) -> None:
        cancelled, succeeded = at_once(
            factory,
            lambda s: job_state.request_cancel(s, taken.job_id),
            lambda s: job_state.succeed(s, taken, fine_tuned_model=f"ft:{taken.job_id}"),
        )
        state, _, told = state_and_events(factory, taken.job_id)
        if succeeded is True:
            assert isinstance(cancelled, Conflict)
            assert state == "succeeded"
            return
        assert succeeded is False
        assert cancelled.cancel_requested
        assert not any("successfully" in message for message in told)
        with transaction(factory) as session:
            assert job_state.cancel_claimed(session, taken)

    for _ in range(ROUNDS):
        race(claimed(factory, queue_job()))


def test_reaper_against_success_and_renewal_one_winner(factory: Factory, queue_job: QueueJob) -> None:
    def race(step: Callable[[Session], bool]) -> None:
        reaped, written = at_once(factory, lambda s: job_state.reap(s, 5), step)
        assert (reaped == []) is (written is True), (reaped, written)

    for _ in range(ROUNDS):
        first, second = (claimed(factory, queue_job(), -1.0) for _ in range(2))
        with transaction(factory) as session:
            job_state.renew(session, second, 30.0)
        race(partial(job_state.succeed, claim=first))
        with transaction(factory) as session:
            job_state.renew(session, second, -1.0)
        race(partial(job_state.renew, claim=second, lease_seconds=30.0))


def test_two_reapers_count_one_loss(factory: Factory, queue_job: QueueJob) -> None:
    for _ in range(ROUNDS):
        taken = claimed(factory, queue_job(), -1.0)
        results = at_once(factory, *[lambda s: job_state.reap(s, 5)] * 3)
        assert sorted(results) == [[], [], [(taken.job_id, "requeued")]]
        with transaction(factory) as session:
            job_state.request_cancel(session, taken.job_id)


def test_cancel_against_claim_leaves_no_job_forgotten(factory: Factory, queue_job: QueueJob) -> None:
    def race(job_id: str) -> None:
        cancelled, taken = at_once(
            factory,
            lambda s: job_state.request_cancel(s, job_id),
            lambda s: job_state.claim(s, job_id, "w", 30.0),
        )
        assert cancelled.cancel_requested
        assert cancelled.state == ("cancelled" if taken is None else "running")

    for _ in range(ROUNDS):
        race(queue_job())


def test_cancel_against_reaper_never_queues_a_cancelled_job(factory: Factory, queue_job: QueueJob) -> None:
    def race(taken: Claim) -> None:
        at_once(
            factory,
            lambda s: job_state.request_cancel(s, taken.job_id),
            lambda s: job_state.reap(s, 5),
        )
        with transaction(factory) as session:
            job_state.reap(session, 5)
        assert state_and_events(factory, taken.job_id)[0] == "cancelled"

    for _ in range(ROUNDS):
        race(claimed(factory, queue_job(), -1.0))


@pytest.mark.parametrize("writers", [4])
def test_events_of_concurrent_writers_are_numbered_without_gaps(
    factory: Factory, queue_job: QueueJob, writers: int
) -> None:
    job_id = queue_job()

    def tell(session: Session) -> None:
        for number in range(5):
            EventRepository(session).append(job_id, "info", f"{number}")

    assert at_once(factory, *[tell] * writers) == [None] * writers
    _, numbers, _ = state_and_events(factory, job_id)
    assert numbers == list(range(1, 5 * writers + 2))


# The same races with the rival in exactly the gap between reading and writing. SQLite has no such gap.
postgresql_only = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


def in_the_gap(monkeypatch: pytest.MonkeyPatch, factory: Factory, read: str, rival: Callable[[Session], Any]) -> None:
    """Let `rival` commit right after the next call of the repository's method `read`."""
    original = getattr(JobQueueRepository, read)

    def reading(self: JobQueueRepository, *arguments: Any) -> Any:
        found = original(self, *arguments)
        monkeypatch.setattr(JobQueueRepository, read, original)
        with transaction(factory) as session:
            rival(session)
        return found

    monkeypatch.setattr(JobQueueRepository, read, reading)


@postgresql_only
def test_a_claim_between_reading_and_claiming(
    factory: Factory, queue_job: QueueJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = queue_job()
    in_the_gap(monkeypatch, factory, "get", lambda s: job_state.claim(s, job_id, "rival", 30.0))
    with transaction(factory) as session:
        assert job_state.claim(session, job_id, "late", 30.0) is None


@postgresql_only
def test_a_claim_and_a_return_between_reading_and_claiming(
    factory: Factory, queue_job: QueueJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = queue_job()

    def rival(session: Session) -> None:
        taken = job_state.claim(session, job_id, "rival", 30.0)
        assert taken is not None
        assert job_state.requeue(session, taken, "stop")

    in_the_gap(monkeypatch, factory, "get", rival)
    with transaction(factory) as session:  # its token would not be the one it thinks
        assert job_state.claim(session, job_id, "late", 30.0) is None
    assert claimed(factory, job_id).token == 2


@postgresql_only
def test_a_renewal_between_reading_and_reaping(
    factory: Factory, queue_job: QueueJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = claimed(factory, queue_job(), -1.0)
    in_the_gap(monkeypatch, factory, "expired", lambda s: job_state.renew(s, taken, 30.0))
    with transaction(factory) as session:
        assert job_state.reap(session, 5) == []
        assert job_state.holds(session, taken)


@postgresql_only
def test_a_cancellation_between_reading_and_reaping(
    factory: Factory, queue_job: QueueJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = claimed(factory, queue_job(), -1.0)
    in_the_gap(monkeypatch, factory, "expired", lambda s: job_state.request_cancel(s, taken.job_id))
    with transaction(factory) as session:
        assert job_state.reap(session, 5) == []
    with transaction(factory) as session:
        assert job_state.reap(session, 5) == [(taken.job_id, "cancelled")]


@postgresql_only
def test_a_claim_between_reading_and_cancelling(
    factory: Factory, queue_job: QueueJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = queue_job()
    in_the_gap(monkeypatch, factory, "get", lambda s: job_state.claim(s, job_id, "rival", 30.0))
    with transaction(factory) as session:  # looks again
        job = job_state.request_cancel(session, job_id)
    assert (job.state, job.cancel_requested) == ("running", True)


@postgresql_only
def test_the_end_of_a_job_between_reading_and_cancelling(
    factory: Factory, queue_job: QueueJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = claimed(factory, queue_job())
    in_the_gap(monkeypatch, factory, "get", lambda s: job_state.fail(s, taken, "code", "message"))
    with transaction(factory) as session, pytest.raises(Conflict):
        job_state.request_cancel(session, taken.job_id)
