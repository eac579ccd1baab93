"""The heartbeat: renewing, losing, hearing of a cancel, and a database that is away."""

import threading
import time
from collections.abc import Callable

from worker.lease import Heartbeat, Pulse


def until(condition: Callable[[], bool], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_it_renews_until_left() -> None:
    beats: list[float] = []

    def renew() -> Pulse:
        beats.append(time.monotonic())
        return Pulse(held=True, cancel_requested=False)

    with Heartbeat(renew, renew_seconds=0.02, lease_seconds=5) as heartbeat:
        assert until(lambda: len(beats) >= 5)
        assert not heartbeat.lost
        assert not heartbeat.cancelled
    after = len(beats)
    time.sleep(0.1)
    assert len(beats) == after


def test_a_refused_renewal_is_a_lost_lease() -> None:
    with Heartbeat(lambda: Pulse(False, False), renew_seconds=0.02, lease_seconds=5) as heartbeat:
        assert until(lambda: heartbeat.lost)


def test_it_hears_of_a_cancel_and_keeps_the_lease() -> None:
    with Heartbeat(lambda: Pulse(True, True), renew_seconds=0.02, lease_seconds=5) as heartbeat:
        assert until(lambda: heartbeat.cancelled)
        assert not heartbeat.lost


def test_a_database_that_is_away_for_less_than_the_lease_is_survived() -> None:
    calls = 0

    def renew() -> Pulse:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise ConnectionError("away")
        return Pulse(True, False)

    with Heartbeat(renew, renew_seconds=0.05, lease_seconds=5) as heartbeat:
        assert until(lambda: calls >= 6)
        assert not heartbeat.lost


def test_a_database_that_stays_away_loses_the_lease() -> None:
    def renew() -> Pulse:
        raise ConnectionError("away")

    with Heartbeat(renew, renew_seconds=0.02, lease_seconds=0.3) as heartbeat:
        assert not heartbeat.lost
        assert until(lambda: heartbeat.lost)


def test_a_database_that_hangs_loses_the_lease() -> None:
    answer = threading.Event()

    def renew() -> Pulse:
        answer.wait(10)
        return Pulse(True, False)

    with Heartbeat(renew, renew_seconds=0.02, lease_seconds=0.3) as heartbeat:
        assert not heartbeat.lost
        assert until(lambda: heartbeat.lost)
        answer.set()
