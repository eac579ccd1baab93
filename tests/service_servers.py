"""Private PostgreSQL and Redis servers for tests, from this machine's binaries, stopped after use."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

POSTGRESQL_FLAGS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "listen_addresses=")
START_SECONDS = 60.0


def lacking(what: str) -> None:
    """Skip the test for want of `what`; in CI nothing may be skipped, so fail there."""
    reason = f"{what} is not installed on this machine"
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(f"{reason}, and CI runs every test")
    pytest.skip(reason)


def postgresql_binaries() -> Path | None:
    """The directory of initdb and pg_ctl, of the newest version there is."""
    on_path = shutil.which("initdb")
    if on_path and shutil.which("pg_ctl"):
        return Path(on_path).resolve().parent
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    versions = sorted(found, key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0)
    return versions[-1].parent if versions else None


@contextmanager
def postgresql_server() -> Iterator[str]:
    """A running server; the value is a URL with ``{database}`` in the place of the database's name.

    It listens on a Unix socket only. PostgreSQL refuses to run as root: there, another user runs it.
    """
    binaries = postgresql_binaries()
    if binaries is None:
        lacking("PostgreSQL")
    home = Path(tempfile.mkdtemp(prefix="tvaccine-pg-", dir="/tmp"))
    as_user = _unprivileged(home)
    data = home / "data"
    options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
    flags = (*POSTGRESQL_FLAGS, f"unix_socket_directories={home}")
    server = [str(binaries / "postgres"), "-D", str(data), *(part for flag in flags for part in ("-c", flag))]
    url = f"postgresql+psycopg://postgres@/{{database}}?host={home}"
    try:
        _run([*as_user, str(binaries / "initdb"), "-D", str(data), *options])
        with _child([*as_user, *server], home / "log", signal.SIGQUIT) as process:
            _wait(process, home / "log", lambda: _answers(url))
            yield url
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def redis_server() -> Iterator[str]:
    """A running, empty server; the value is its URL."""
    binary = shutil.which("redis-server")
    if binary is None:
        lacking("redis-server")
    home = Path(tempfile.mkdtemp(prefix="tvaccine-redis-", dir="/tmp"))
    port = free_port()
    command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    try:
        with _child([*command, "--dir", str(home)], home / "log", signal.SIGTERM) as process:
            _wait(process, home / "log", lambda: _listens(port))
            yield f"redis://127.0.0.1:{port}/0"
    finally:
        shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged(home: Path) -> list[str]:
    """The command prefix that drops root, if this is root, for a user that then owns `home`."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = next((name for name in ("postgres", "nobody") if name in names), None)
    if user is None or shutil.which("setpriv") is None:
        lacking("a user that may run PostgreSQL, or setpriv,")
    entry = pwd.getpwnam(str(user))
    os.chown(home, entry.pw_uid, entry.pw_gid)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


def _run(command: list[str]) -> None:
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command, stdout=output, stderr=output, cwd="/", timeout=120)
        if done.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{command}: {output.read().decode(errors='replace')}")


@contextmanager
def _child(command: list[str], log: Path, end: signal.Signals) -> Iterator[subprocess.Popen[bytes]]:
    """A running server, ended by the signal `end`; it also ends when this process is killed."""
    tether = ["setpriv", "--pdeathsig", end.name.removeprefix("SIG")] if shutil.which("setpriv") else []
    user, program = _split(command)
    with log.open("wb") as output:
        process = subprocess.Popen([*user, *tether, *program], stdout=output, stderr=output, cwd="/")
    try:
        yield process
    finally:
        process.send_signal(end)
        process.wait(timeout=30)


def _split(command: list[str]) -> tuple[list[str], list[str]]:
    """The prefix that changes the user, and the program: the death signal must be set after that change."""
    start = next(place for place, part in enumerate(command) if part.startswith("/"))
    return command[:start], command[start:]


def _wait(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        if ready():
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} did not start: {log.read_text(errors='replace')}")


def _answers(url: str) -> bool:
    plain = url.format(database="postgres").replace("postgresql+psycopg", "postgresql")
    try:
        psycopg.connect(plain, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
