"""Private PostgreSQL and Redis servers for tests, from this machine's binaries, stopped after use."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

POSTGRESQL_FLAGS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "listen_addresses=")
START_SECONDS = 30.0


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
    as_user, user = _unprivileged(home)
    data, log = home / "data", home / "log"
    options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
    try:
        _run([*as_user, str(binaries / "initdb"), "-D", str(data), *options], user)
        flags = " ".join(f"-c {flag}" for flag in (*POSTGRESQL_FLAGS, f"unix_socket_directories={home}"))
        control = [*as_user, str(binaries / "pg_ctl"), "-D", str(data)]
        _run([*control, "-l", str(log), "-w", "-t", "60", "-o", flags, "start"], user)
        try:
            yield f"postgresql+psycopg://postgres@/{{database}}?host={home}"
        finally:
            _run([*control, "-m", "immediate", "-w", "stop"], user)
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
    with (home / "log").open("wb") as log:
        server = subprocess.Popen([*command, "--dir", str(home)], stdout=log, stderr=log)
    try:
        _wait_for_port(port, server)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(timeout=10)
        shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged(home: Path) -> tuple[list[str], str | None]:
    """The command prefix that drops root, if this is root, for a user that then owns `home`."""
    if os.geteuid() != 0:
        return [], None
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = next((name for name in ("postgres", "nobody") if name in names), None)
    if user is None or shutil.which("setpriv") is None:
        lacking("a user that may run PostgreSQL, or setpriv,")
    entry = pwd.getpwnam(str(user))
    os.chown(home, entry.pw_uid, entry.pw_gid)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"], user


def _run(command: list[str], user: str | None) -> None:
    environment = {**os.environ, "LC_ALL": "C", **({"USER": user} if user else {})}
    # Not captured by a pipe: the server would inherit it and keep it open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command, stdout=output, stderr=output, cwd="/", env=environment, timeout=120)
        if done.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{command}: {output.read().decode(errors='replace')}")


def _wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the server did not start")
