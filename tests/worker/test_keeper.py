"""Dispatcher, reaper and housekeeping against a real database, with a publisher that can be told to fail."""

import threading
import time
from pathlib import Path

import pytest

from service.db.engine import transaction
from service.domain import job_state
from service.settings import Settings
from tests.worker.conftest import Open, Shop
from worker.dispatcher import Dispatcher
from worker.housekeeping import Housekeeping
from worker.keeper import keep
from worker.loop import repeat
from worker.reaper import Reaper


class Wire:
    """A publisher that writes down what it sends, or is away."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.away = False

    def publish(self, job_id: str) -> None:
        if self.away:
            raise ConnectionError("no broker")
        self.sent.append(job_id)


def dispatcher(shop: Shop, wire: Wire) -> Dispatcher:
    return Dispatcher(shop.runtime.sessions, wire, shop.runtime.settings)


def test_a_queued_job_is_published_once_and_again_when_nobody_came(open_shop: Open) -> None:
    shop, wire = open_shop(dispatch_after_seconds=0.3), Wire()
    jobs = [shop.queue(), shop.queue()]
    keeper = dispatcher(shop, wire)
    assert keeper.turn() == 2
    assert keeper.turn() == 0
    assert wire.sent == jobs
    time.sleep(0.4)
    assert keeper.turn() == 2
    assert wire.sent == jobs * 2


def test_a_claimed_job_is_not_published(shop: Shop) -> None:
    wire = Wire()
    job_id = shop.queue()
    with transaction(shop.runtime.sessions) as session:
        job_state.claim(session, job_id, "w", 30.0)
    assert dispatcher(shop, wire).turn() == 0


def test_jobs_wait_for_a_broker_that_is_away_and_none_is_lost(open_shop: Open) -> None:
    shop, wire = open_shop(dispatch_after_seconds=0.2), Wire()
    jobs = [shop.queue(), shop.queue()]
    keeper = dispatcher(shop, wire)
    wire.away = True
    assert keeper.turn() == 0
    wire.away = False
    time.sleep(0.3)
    assert keeper.turn() == 2
    assert wire.sent == jobs


def test_a_job_that_was_parked_too_late_is_found(shop: Shop) -> None:
    """The vaccination ended between a job's look at it and the job's parking."""
    first, second = shop.queue(), shop.queue()
    shop.work_once(first)
    shop.work_once(second)
    vaccination = next(job_id for job_id in shop.queued() if job_id.startswith("vacjob-"))
    vaccine_id = shop.job(first).vaccine_id
    assert vaccine_id is not None
    shop.work_once(vaccination)
    with transaction(shop.runtime.sessions) as session:
        claim = job_state.claim(session, second, "w", 30.0)
        assert claim is not None
        assert job_state.park(session, claim, vaccine_id)
    assert shop.job(second).state == "waiting"
    dispatcher(shop, Wire()).turn()
    assert shop.job(second).state == "queued"


def test_an_expired_lease_brings_the_job_back_until_the_cap(open_shop: Open) -> None:
    shop = open_shop(max_attempts=2)
    job_id = shop.queue()
    reaper = Reaper(shop.runtime.sessions, shop.runtime.settings)
    for expected in ("queued", "failed"):
        with transaction(shop.runtime.sessions) as session:
            assert job_state.claim(session, job_id, "dead", -1.0) is not None
        assert reaper.turn() == 1
        assert shop.job(job_id).state == expected
    error = shop.job(job_id).error
    assert error is not None
    assert error["code"] == "worker_lost"
    assert reaper.turn() == 0


def test_a_lease_that_runs_is_left_alone(shop: Shop) -> None:
    job_id = shop.queue()
    with transaction(shop.runtime.sessions) as session:
        job_state.claim(session, job_id, "alive", 30.0)
    assert Reaper(shop.runtime.sessions, shop.runtime.settings).turn() == 0
    assert shop.job(job_id).state == "running"


def scratch(settings: Settings, name: str) -> Path:
    path = settings.scratch_dir / name / "attempt-1"
    path.mkdir(parents=True)
    return path.parent


def test_scratch_of_ended_jobs_goes_and_that_of_open_ones_stays(shop: Shop) -> None:
    done, open_job = shop.queue(), shop.queue()
    with transaction(shop.runtime.sessions) as session:
        job_state.request_cancel(session, done)
    settings = shop.runtime.settings
    gone, kept = scratch(settings, done), scratch(settings, open_job)
    unknown = scratch(settings, "ftjob-of-another-database")
    house = Housekeeping(shop.runtime.sessions, settings)
    assert house.clear_scratch() == []  # an operator may still want to read the logs
    time.sleep(0.01)
    assert house.clear_scratch(older_than_seconds=-1.0) == [done]
    assert not gone.exists()
    assert kept.exists()
    assert unknown.exists()
    house.turn()


def test_a_loop_survives_failures_and_ends_when_told() -> None:
    stop, calls = threading.Event(), 0

    def duty() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError("the database restarts")
        if calls == 3:
            stop.set()

    repeat(duty, every_seconds=0.01, stop=stop)
    assert calls == 3


def test_settings_that_no_job_could_run_with_are_refused(tmp_path: Path) -> None:
    from tvaccine_core.errors import InvalidRequest
    from worker.settings_check import check_settings

    check_settings(Settings(data_dir=tmp_path))
    check_settings(Settings(data_dir=tmp_path, judge=f"any({tmp_path}, llama-guard-3:owner/model)"))
    for name, wrong in (
        ("TVACCINE_JUDGE", {"judge": str(tmp_path / "nowhere")}),
        ("TVACCINE_JUDGE: .*any\\(A, B\\)", {"judge": "any(embedded"}),
        ("TVACCINE_JUDGE: .*for comparison only", {"judge": "any(embedded, keyword)"}),
        ("TVACCINE_GATE", {"gate": {"limit": 200}}),
        ("TVACCINE_FINE_TUNE", {"fine_tune": {"epoch": 1}}),
    ):
        with pytest.raises(InvalidRequest, match=name):
            check_settings(Settings(data_dir=tmp_path, **wrong))


def test_a_keeper_does_not_go_on_with_half_its_duties(tmp_path: Path) -> None:
    def gives_up(settings: Settings, stop: threading.Event) -> None:
        raise ValueError("no such broker")

    def goes_on(settings: Settings, stop: threading.Event) -> None:
        assert stop.wait(10)

    settings = Settings(data_dir=tmp_path)
    assert not keep(settings, threading.Event(), [goes_on, gives_up])
    told = threading.Event()
    told.set()
    assert keep(settings, told, [goes_on, goes_on])
