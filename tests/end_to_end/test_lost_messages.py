"""The broker loses every message while jobs are queued: they run all the same, a little later."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.end_to_end.jobs import create_job, events, wait_for_end
from tests.end_to_end.running_service import RunningService, running_service, until
from tests.end_to_end.tiny_world import TinyWorld
from tests.service_servers import redis_server
from worker.app import QUEUE

pytestmark = pytest.mark.timeout(900)

DISPATCH_AFTER = 4
NO_WORKER = ("--workers", "0")


@contextmanager
def service_without_worker(directory: Path, world: TinyWorld, **settings: Any) -> Iterator[RunningService]:
    """Jobs queue up in it; they are quick to fail, at the first stage, because their base is gone."""
    gone = str(directory / "gone")
    settings = {**world.settings, "allowed_bases": gone, "base": gone, **settings}
    with running_service(directory, arguments=NO_WORKER, dispatch_after_seconds=DISPATCH_AFTER, **settings) as service:
        yield service


def lose_all(service: RunningService, world: TinyWorld, count: Callable[[], int], lose: Callable[[], Any]) -> None:
    """Queue jobs, lose their messages, start a worker: each job must have run once."""
    client = service.client()
    base = service.data_dir / "gone"
    jobs = [create_job(client, base, world.training_file) for _ in range(3)]
    until(lambda: count() >= len(jobs))
    lose()
    assert count() < len(jobs)
    with worker_of(service):
        for job_id in jobs:
            job = wait_for_end(client, job_id)
            assert job.error is not None
            assert job.error.code == "model_not_found", (job.error, service.log.read_text()[-3000:])
            starts = [event for event in events(client, job_id) if event.message.startswith("Job started")]
            assert len(starts) == 1


@contextmanager
def worker_of(service: RunningService) -> Iterator[None]:
    """One worker of the service, with the settings of its API process."""
    (api,) = service.find("uvicorn")
    pairs = Path(f"/proc/{api}/environ").read_bytes().decode().split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    command = ["-m", "celery", "--app", "worker.app", "--quiet", "worker", "--concurrency", "1"]
    with service.log.open("ab") as log:
        worker = subprocess.Popen([sys.executable, *command], env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(timeout=30)


def test_all_files_of_the_filesystem_transport_are_deleted(tmp_path: Path, tiny_world: TinyWorld) -> None:
    messages = tmp_path / "data/broker/messages"

    def count() -> int:
        return len(list(messages.glob("*.msg")))

    def lose() -> None:
        for path in messages.glob("*.msg"):
            path.unlink()

    with service_without_worker(tmp_path / "data", tiny_world) as service:
        lose_all(service, tiny_world, count, lose)


@pytest.mark.server
def test_redis_is_flushed(tmp_path: Path, tiny_world: TinyWorld) -> None:
    with redis_server() as url, redis.Redis.from_url(url) as broker:

        def count() -> int:
            return int(broker.llen(QUEUE))  # type: ignore[arg-type]

        with service_without_worker(tmp_path / "data", tiny_world, broker_url=url) as service:
            lose_all(service, tiny_world, count, broker.flushall)


@pytest.mark.server
def test_jobs_created_while_redis_is_away_run_when_it_is_back(tmp_path: Path, tiny_world: TinyWorld) -> None:
    with redis_server() as url:
        pass
    with service_without_worker(tmp_path / "data", tiny_world, broker_url=url) as service:
        client = service.client()
        job_id = create_job(client, service.data_dir / "gone", tiny_world.training_file)
        until(lambda: "broker does not take messages" in service.log.read_text())
        assert client.fine_tuning.jobs.retrieve(job_id).status == "queued"
        port = url.rpartition(":")[2].partition("/")[0]
        server = subprocess.Popen(
            ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            cwd=tmp_path,
            env=os.environ,
        )
        try:
            with worker_of(service):
                job = wait_for_end(client, job_id)
                assert job.error is not None
                assert job.error.code == "model_not_found"  # it ran: its base is gone
        finally:
            server.terminate()
            server.wait(timeout=10)
