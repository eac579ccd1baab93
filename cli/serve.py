"""`tvaccine migrate` and `tvaccine serve`: one process each, for containers and process managers."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cli.output import JsonOption, finish

serve_app = typer.Typer(help="Run one process of the service in the foreground.", no_args_is_help=True)


def migrate_command(as_json: JsonOption = False) -> None:
    """Bring the database up to date; prints the first admin key if there is no key yet."""
    from cli.up import prepare
    from service.settings import load_settings

    key = prepare(load_settings())
    words = "The database is up to date."
    if key is not None:
        words += f"\nFirst admin key (shown only now, keep it): {key}"
    finish({"migrated": True, "admin_key": key}, words, as_json=as_json)


@serve_app.command("api")
def api_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Run the HTTP API."""
    from service.settings import load_settings

    settings = load_settings()
    address = ["--host", host or settings.host, "--port", str(port or settings.port)]
    _become("uvicorn", "api.asgi:app", *address, "--no-access-log", "--log-level", "warning")


@serve_app.command("keeper")
def keeper_command() -> None:
    """Run the dispatcher (wakes workers for queued jobs) and the reaper (takes back lost ones)."""
    _become("worker.keeper")


@serve_app.command("worker")
def worker_command() -> None:
    """Run a worker that takes one job at a time; start as many as there are GPUs."""
    options = ["--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    _become("celery", "--app", "worker.app", "worker", *options, "--loglevel", "WARNING")


def _become(*arguments: str) -> None:
    """Replace this process, so that a container's signals reach the program itself."""
    os.execv(sys.executable, [sys.executable, "-m", *arguments])  # noqa: S606 - our own modules
