"""`tvaccine check FILE`: judge a training file as the server would, without a server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.output import JsonOption, finish


def check_command(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A JSONL file.")],
    as_json: JsonOption = False,
) -> None:
    """Check every row of a training file; exit status 1 if one is at fault."""
    from tvaccine_core.data.rows import read_rows_file

    report = read_rows_file(file)
    faults = [asdict(fault) for fault in report.faults]
    lines = [
        ": ".join([f"{file}:{fault.line}", *([fault.path] if fault.path else []), fault.message])
        for fault in report.faults
    ]
    summary = f"{len(report.rows)} rows can be trained on, {len(faults)} faults found."
    finish(
        {"file": str(file), "valid": not faults, "rows": len(report.rows), "faults": faults},
        "\n".join([*lines, summary]),
        as_json=as_json,
    )
    if faults:
        raise typer.Exit(1)
