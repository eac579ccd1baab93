"""Wake-ups: where they lie, what they carry, and that a broker which is away never holds anybody up."""

import base64
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from service.settings import load_settings
from tests.service_servers import redis_server
from worker.app import QUEUE, RUN_JOB, make_app
from worker.publish import CeleryPublisher


def test_a_wake_up_is_json_and_carries_only_the_jobs_id(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    CeleryPublisher(settings).publish("ftjob-1")
    (message,) = (tmp_path / "broker/messages").iterdir()
    envelope = json.loads(message.read_text())
    assert envelope["content-type"] == "application/json"
    assert envelope["headers"]["task"] == RUN_JOB
    assert json.loads(base64.b64decode(envelope["body"]))[0] == ["ftjob-1"]
    assert (tmp_path / "broker").stat().st_mode & 0o077 == 0


def test_the_application_takes_json_only_and_keeps_no_results(tmp_path: Path) -> None:
    conf = make_app(load_settings(data_dir=tmp_path)).conf
    assert conf.accept_content == conf.result_accept_content == ["json"]
    assert conf.task_ignore_result
    assert conf.result_backend is None
    assert not conf.task_acks_late
    assert conf.worker_prefetch_multiplier == 1
    assert not conf.worker_hijack_root_logger
    assert conf.task_default_queue == QUEUE


def took(act: Callable[[], object]) -> float:
    started = time.monotonic()
    with pytest.raises(OperationalError):
        act()
    return time.monotonic() - started


def test_a_broker_that_refuses_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}/0"
        publisher = CeleryPublisher(load_settings(data_dir=tmp_path, broker_url=url))
        assert took(lambda: publisher.publish("ftjob-1")) < 3


def test_a_broker_that_never_answers_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)  # takes connections, says nothing
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        publisher = CeleryPublisher(load_settings(data_dir=tmp_path, broker_url=url))
        assert took(lambda: publisher.publish("ftjob-1")) < 15


@pytest.mark.server
def test_redis_takes_wake_ups_and_a_worker_takes_them_one_at_a_time(tmp_path: Path) -> None:
    with redis_server() as url:
        settings = load_settings(data_dir=tmp_path, broker_url=url)
        CeleryPublisher(settings).publish("ftjob-1")
        app = make_app(settings)
        assert app.conf.worker_disable_prefetch
        with app.connection_for_read() as connection:
            assert connection.default_channel.client.llen(QUEUE) == 1
