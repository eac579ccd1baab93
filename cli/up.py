"""`tvaccine up`: the whole service on this machine, with no server to install."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from cli.children import Child, keep_running, stop_all
from cli.output import JsonOption, finish, say
from tvaccine_core.errors import Unavailable

if TYPE_CHECKING:
    from service.settings import Settings

READY_WITHIN = 60.0
FIRST_PROJECT = "default"
# An open event stream must not hold up the shutdown.
API_OPTIONS = ("--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "5")


def up_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Jobs that run at the same time.")] = 1,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write url and first key to this file, as JSON, when the service is up."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run API, dispatcher, reaper and workers until Ctrl-C; prints the first admin key once."""
    settings = _settings(host, port)
    lock = _lock(settings.data_dir)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    children = _children(settings, workers)
    # The API first: it answers /healthz while the database is being prepared.
    children[0].start()
    try:
        key = prepare(settings)
        for child in children[1:]:
            child.start()
        url = f"http://{_reachable(settings.host)}:{settings.port}"
        if _wait_until_up(children[0], url, stop):
            _announce(url, key, ready_file, as_json=as_json)
        keep_running(children, stop.wait, say)
    finally:
        say("tvaccine: shutting down")
        stop_all(children, within_seconds=settings.cancel_grace_seconds + 10.0)
        lock.close()


def prepare(settings: Settings) -> str | None:
    """Bring the database up to date; the secret of the first admin key, if there was no key yet.

    Raises Unavailable when the database does not answer.
    """
    from sqlalchemy.exc import OperationalError

    from service.db.migrate import upgrade

    try:
        upgrade(settings.database_url)
        return _first_key(settings)
    except OperationalError as error:
        # Not the driver's words: they may hold the URL with its password.
        raise Unavailable(
            "The database cannot be used. Check TVACCINE_DATABASE_URL and that the server runs."
        ) from error


def _first_key(settings: Settings) -> str | None:
    from service.db.engine import make_engine, session_factory, transaction
    from service.keys import create_key, ensure_project, list_keys

    engine = make_engine(settings.database_url)
    try:
        with transaction(session_factory(engine)) as session:
            if list_keys(session):
                return None
            _, secret = create_key(session, ensure_project(session, FIRST_PROJECT).id, "admin")
            return secret
    finally:
        engine.dispose()


def _settings(host: str | None, port: int | None) -> Settings:
    """The settings with the options put over them, checked for what `up` needs."""
    from service.settings import load_settings
    from worker.settings_check import check_settings

    overrides: dict[str, Any] = {}
    if host is not None:
        overrides["host"] = host
    if port is not None:
        overrides["port"] = port or _free_port(host or "127.0.0.1")
    settings = load_settings(**overrides)
    check_settings(settings)
    settings.make_directories()
    _require_free(settings.host, settings.port)
    return settings


def _lock(data_dir: Path) -> IO[str]:
    """Hold the data directory for this process; the system lets go of it when the process ends.

    Raises Unavailable when another `tvaccine up` holds it.
    """
    lock = (data_dir / "up.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Unavailable(
            f"Another `tvaccine up` runs on {data_dir}. Stop it, or set TVACCINE_DATA_DIR to another directory."
        ) from error
    return lock


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Unavailable(
                f"Cannot listen on {host}:{port} ({error.strerror}). Choose another --port or --host."
            ) from error


def _children(settings: Settings, workers: int) -> list[Child]:
    environment = _environment(settings)
    python = [sys.executable, "-m"]
    api = [*python, "uvicorn", "api.asgi:app", "--host", settings.host, "--port", str(settings.port)]
    children = [
        Child("API", [*api, *API_OPTIONS], environment),
        Child("keeper", [*python, "worker.keeper"], environment),
    ]
    for number in range(1, workers + 1):
        command = [*python, "celery", "--app", "worker.app", "--quiet", "worker", "--concurrency", "1"]
        # The same name at each start: a worker takes back at once what it had when it was killed.
        name = f"worker{number}-{settings.port}@%h"
        options = ["--hostname", name, "--without-gossip", "--without-mingle"]
        quiet = ["--without-heartbeat", "--loglevel", "WARNING"]
        children.append(Child(f"worker {number}", command + options + quiet, environment))
    return children


def _environment(settings: Settings) -> Mapping[str, str]:
    """Children read the same settings from their environment; the options given to us are added to it."""
    return {
        **os.environ,
        "TVACCINE_HOST": settings.host,
        "TVACCINE_PORT": str(settings.port),
        "TVACCINE_DATA_DIR": str(settings.data_dir),
    }


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _wait_until_up(api: Child, url: str, stop: threading.Event) -> bool:
    """Wait for /healthz; False if told to stop meanwhile.

    Raises Unavailable if the API ends or stays silent.
    """
    deadline = time.monotonic() + READY_WITHIN
    while not stop.wait(0.1):
        if _answers(f"{url}/healthz"):
            return True
        if api.process is not None and api.process.poll() is not None:
            raise Unavailable("The API process ended while starting; its output above says why.")
        if time.monotonic() > deadline:
            raise Unavailable(f"The API did not answer at {url} within {READY_WITHIN:g} s.")
    return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - http to ourselves
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _announce(url: str, key: str | None, ready_file: Path | None, *, as_json: bool) -> None:
    result = {"url": url, "admin_key": key, "pid": os.getpid()}
    words = [f"tvaccine is up: {url}/v1"]
    if key is not None:
        words.append(f"First admin key (shown only now, keep it): {key}")
    if ready_file is not None:
        _write_private(ready_file, json.dumps(result))
    finish(result, "\n".join(words), as_json=as_json)


def _write_private(path: Path, text: str) -> None:
    """Write for the owner's eyes only, and so that a reader never sees half of it."""
    half = path.with_name(f".{path.name}.part")
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    half.replace(path)
