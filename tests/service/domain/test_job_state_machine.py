"""Random walks through a job's life, compared after every step with a model of a dozen lines."""

from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy.orm import Session, sessionmaker

from service.db.engine import read_transaction, transaction
from service.db.repositories.events import EventRepository
from service.db.repositories.jobs import JobQueueRepository
from service.domain import job_state
from service.domain.job_state import TERMINAL, Claim
from tvaccine_core.errors import Conflict

MAX_ATTEMPTS = 3
Factory = sessionmaker[Session]


class JobLife(RuleBasedStateMachine):
    """One job, any number of workers with claims old and new, a user who cancels, and the reaper."""

    claims = Bundle("claims")

    def __init__(self, factory: Factory, job_id: str, vaccine_id: str) -> None:
        super().__init__()
        self.factory, self.job_id, self.vaccine_id = factory, job_id, vaccine_id
        self.state, self.token, self.expiries = "queued", 0, 0
        self.cancel, self.lease_good = False, False

    def do(self, step: Callable[..., Any], *arguments: Any) -> Any:
        with transaction(self.factory) as session:
            return step(session, *arguments)

    def holds(self, claim: Claim | None) -> bool:
        return claim is not None and self.state == "running" and claim.token == self.token

    @rule(target=claims, good=st.booleans())
    def claim(self, good: bool) -> Claim | None:
        taken = self.do(job_state.claim, self.job_id, "worker", 1000.0 if good else -1000.0)
        assert (taken is not None) == (self.state == "queued")
        if taken is not None:
            self.state, self.token, self.lease_good = "running", self.token + 1, good
            assert (taken.token, taken.attempt) == (self.token, self.token)
        return taken

    @rule(claim=claims, good=st.booleans())
    def renew(self, claim: Claim | None, good: bool) -> None:
        if claim is None:
            return
        assert self.do(job_state.renew, claim, 1000.0 if good else -1000.0) == self.holds(claim)
        if self.holds(claim):
            self.lease_good = good

    @rule(claim=claims, stage=st.sampled_from(["screening", "scoring"]))
    def set_stage(self, claim: Claim | None, stage: str) -> None:
        if claim is not None:
            assert self.do(job_state.set_stage, claim, stage) == self.holds(claim)

    @rule(claim=claims)
    def succeed(self, claim: Claim | None) -> None:
        self.move(claim, job_state.succeed, (), "succeeded", not self.cancel)

    @rule(claim=claims)
    def fail(self, claim: Claim | None) -> None:
        self.move(claim, job_state.fail, ("code", "message"), "failed", True)

    @rule(claim=claims)
    def requeue(self, claim: Claim | None) -> None:
        self.move(claim, job_state.requeue, ("reason",), "queued", not self.cancel)

    @rule(claim=claims)
    def park(self, claim: Claim | None) -> None:
        self.move(claim, job_state.park, (self.vaccine_id,), "waiting", not self.cancel)

    @rule(claim=claims)
    def cancel_claimed(self, claim: Claim | None) -> None:
        self.move(claim, job_state.cancel_claimed, (), "cancelled", self.cancel)

    def move(
        self,
        claim: Claim | None,
        step: Callable[..., bool],
        arguments: tuple[Any, ...],
        state: str,
        may: bool,
    ) -> None:
        if claim is None:
            return
        expected = self.holds(claim) and may
        assert self.do(step, claim, *arguments) == expected
        if expected:
            self.state = state

    @rule()
    def unpark(self) -> None:
        assert self.do(job_state.unpark, self.vaccine_id) == (self.state == "waiting")
        if self.state == "waiting":
            self.state = "queued"

    @rule()
    def request_cancel(self) -> None:
        try:
            self.do(job_state.request_cancel, self.job_id)
        except Conflict:
            assert self.state in TERMINAL
            return
        assert self.state not in TERMINAL
        self.cancel = True
        if self.state != "running":
            self.state = "cancelled"

    @rule()
    def reap(self) -> None:
        lost = self.state == "running" and not self.lease_good
        outcome = [] if not lost else [(self.job_id, self.after_loss())]
        assert [pair for pair in self.do(job_state.reap, MAX_ATTEMPTS) if pair[0] == self.job_id] == outcome
        if lost:
            self.expiries += 1
            self.state = "queued" if outcome[0][1] == "requeued" else outcome[0][1]

    def after_loss(self) -> str:
        if self.cancel:
            return "cancelled"
        return "failed" if self.expiries + 1 >= MAX_ATTEMPTS else "requeued"

    @invariant()
    def the_row_is_as_the_model_says(self) -> None:
        with read_transaction(self.factory) as session:
            job = JobQueueRepository(session).get(self.job_id)
            events = EventRepository(session).list(self.job_id, limit=1000)
        assert job is not None
        assert (job.state, job.token, job.attempt) == (self.state, self.token, self.token)
        assert (job.expiries, job.cancel_requested) == (self.expiries, self.cancel)
        assert (job.lease_until is not None) == (job.lease_owner is not None) == (job.state == "running")
        assert (job.finished_at is not None) == (job.state in TERMINAL)
        assert (job.error is not None) == (job.state == "failed")
        assert [event.seq for event in events] == list(range(len(events), 0, -1))
        assert job_state.public_status(job) in {"queued", "running", "succeeded", "failed", "cancelled"}


def test_no_walk_leaves_the_model(
    factory: Factory, queue_job: Callable[..., str], queue_vaccination: Callable[..., tuple[str, str]]
) -> None:
    # A vaccine of its own for every walk: a job that the last one left waiting is not of this one's model.
    versions = count(1)
    run_state_machine_as_test(
        lambda: JobLife(factory, queue_job(), queue_vaccination(next(versions))[0]),
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
