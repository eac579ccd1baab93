"""`tvaccine up` as a process: quick to answer, one key, and no child that outlives it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from cli.children import Child, stop_all
from tests.cli.test_main import tvaccine
from tests.end_to_end.running_service import processes_of, running_service, until

SECONDS_TO_ANSWER = 3.0


def test_it_answers_soon_prints_its_key_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    started = time.monotonic()
    with running_service(data_dir) as service:
        took = time.monotonic() - started
        with urllib.request.urlopen(f"{service.url}/readyz", timeout=10) as answer:
            assert answer.status == 200
        assert service.key.startswith("tv-")
        assert (data_dir / "ready.json").stat().st_mode & 0o077 == 0
        (data_dir / "ready.json").unlink()
        until(lambda: service.find("celery"))
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 0
        assert processes_of(data_dir) == {}
        said = service.log.read_text()
    assert said.count(service.key) == 1
    for path in data_dir.rglob("*"):
        assert path == service.log or not path.is_file() or service.key.encode() not in path.read_bytes()
    with running_service(data_dir, key="none") as again:
        assert json.loads((data_dir / "ready.json").read_text())["admin_key"] is None
        assert "First admin key" not in again.log.read_text().replace(said, "")
    if os.getloadavg()[0] < (os.cpu_count() or 1):
        assert took < SECONDS_TO_ANSWER


def test_killed_without_a_word_it_takes_its_children_along(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        until(lambda: len(service.find("celery")) == 2 and service.find("worker.keeper"))
        service.process.kill()
        service.process.wait()
        until(lambda: not service.processes(), 10)


def test_a_child_that_crashes_is_started_again(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        (keeper,) = until(lambda: service.find("worker.keeper"))
        os.kill(keeper, signal.SIGKILL)
        (fresh,) = until(lambda: [pid for pid in service.find("worker.keeper") if pid != keeper])
        assert fresh != keeper
        assert "keeper ended" in service.log.read_text()


def test_a_port_that_is_taken_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = tvaccine("up", "--port", str(port), TVACCINE_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_on_one_data_directory_are_one_too_many(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", arguments=("--workers", "0")):
        done = tvaccine("up", "--port", "0", TVACCINE_DATA_DIR=str(tmp_path / "data"))
        assert done.returncode == 1
        assert "Another `tvaccine up` runs on" in done.stderr


def child(program: str) -> Child:
    return Child("probe", [sys.executable, "-c", program], dict(os.environ), pause=0.05)


def test_pauses_between_restarts_grow(tmp_path: Path) -> None:
    probe = child("raise SystemExit(3)")
    probe.start()
    told = [until(probe.look, 10) for _ in range(3)]
    assert [words.rpartition(" in ")[2] for words in told] == ["0.05 s", "0.1 s", "0.2 s"]
    assert "exit status 3" in told[0]


@pytest.mark.parametrize("deaf", [False, True])
def test_children_are_stopped_politely_and_then_killed(tmp_path: Path, deaf: bool) -> None:
    mark = tmp_path / "up"
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" if deaf else ""
    probe = child(f"import signal, time\n{ignore}\nopen({str(mark)!r}, 'w').close()\ntime.sleep(60)")
    probe.start()
    until(mark.exists)
    stop_all([probe], within_seconds=0.5)
    assert probe.process is not None
    assert probe.process.returncode == -(signal.SIGKILL if deaf else signal.SIGTERM)


def test_a_child_gets_no_ctrl_c_of_its_own(tmp_path: Path) -> None:
    probe = child("import time; time.sleep(60)")
    probe.start()
    assert probe.process is not None
    try:
        assert os.getsid(probe.process.pid) != os.getsid(0)
    finally:
        stop_all([probe], within_seconds=5)
    assert isinstance(probe.process, subprocess.Popen)
