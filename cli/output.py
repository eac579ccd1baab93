"""What a command says: progress and errors on stderr, its one result last on stdout."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from tvaccine_core.errors import TVaccineError

JSON_FLAG = "--json"
JsonOption = Annotated[bool, typer.Option(JSON_FLAG, help="Print the result as one JSON line on stdout.")]


def say(text: str) -> None:
    """Tell a human something on the way."""
    print(text, file=sys.stderr, flush=True)


def finish(result: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print the command's result: one JSON line for a script, else `text` for a human."""
    print(json.dumps(result) if as_json else text, flush=True)


def report_error(error: TVaccineError, *, as_json: bool) -> None:
    """One line on stderr; with --json also ``{"error": ...}`` on stdout."""
    say(f"tvaccine: {' '.join(error.message.split())}")
    if as_json:
        print(json.dumps({"error": error.to_dict()}), flush=True)
