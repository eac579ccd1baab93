"""`tvaccine base fetch`: bring the embedded base model into the cache."""

from __future__ import annotations

import typer

from cli.output import JsonOption, finish, say

base_app = typer.Typer(help="The base model that comes with tvaccine.", no_args_is_help=True)


@base_app.callback()
def _group() -> None:
    """The base model that comes with tvaccine."""


@base_app.command("fetch")
def fetch_command(as_json: JsonOption = False) -> None:
    """Download the embedded base model once, check it, and say where it lies."""
    from tvaccine_core.models.fetch import fetch_embedded
    from tvaccine_core.models.registry import EMBEDDED

    path = fetch_embedded(progress=say)
    finish({"base": EMBEDDED, "path": str(path)}, f"{EMBEDDED} lies in {path}", as_json=as_json)
