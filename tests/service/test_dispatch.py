from collections.abc import Callable

from sqlalchemy.orm import Session, sessionmaker

from service.db.engine import transaction
from service.dispatch import take_due
from service.domain import job_state

Factory = sessionmaker[Session]


def due(factory: Factory, dispatch_after: float = 30.0) -> list[str]:
    with transaction(factory) as session:
        return take_due(session, 10, dispatch_after)


def test_queued_jobs_are_due_once_and_again_when_nobody_came(factory: Factory, queue_job: Callable[..., str]) -> None:
    jobs = [queue_job(created_at=float(number)) for number in range(3)]
    assert due(factory) == jobs
    assert due(factory) == []
    assert due(factory, -1.0) == jobs
    with transaction(factory) as session:
        taken = job_state.claim(session, jobs[0], "w", 30.0)
        assert taken is not None
    assert due(factory, -1.0) == jobs[1:]
    with transaction(factory) as session:
        job_state.requeue(session, taken, "stop")
    assert due(factory) == [jobs[0]]


def test_a_limit_takes_the_oldest(factory: Factory, queue_job: Callable[..., str]) -> None:
    jobs = [queue_job(created_at=float(number)) for number in range(3)]
    with transaction(factory) as session:
        assert take_due(session, 2) == jobs[:2]
    assert due(factory) == jobs[2:]
