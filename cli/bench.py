"""`tvaccine bench`: run a grid of defences and attacks, and draw its tables and figures."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import JsonOption, finish, say
from cli.vaccinate import STOPPED_STATUS
from tvaccine_core.errors import InvalidRequest

if TYPE_CHECKING:
    from tvaccine_core.experiments.grid import Grid

FAILED_STATUS = 1
FIGURES = "figures"


def bench_command(
    grid: Annotated[Path | None, typer.Argument(dir_okay=False, help="A grid, YAML (see docs/bench.md).")] = None,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Directory for results; several may share it.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Draw tables and figures of this directory.")
    ] = None,
    publish: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="With --table: first copy what may be shown (no prompt, no answer) here."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only check the grid and count its cells.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the cells of a grid that have no result yet, then draw the tables and figures.

    Ctrl-C saves a checkpoint; the same command goes on from it. A cell that fails is told at the end, with exit status
    1, and is tried again the next time.
    """
    if (grid is None) == (table is None):
        raise InvalidRequest("Give a grid to run, or --table DIR to draw what is there.", param="grid")
    if publish is not None and table is None:
        raise InvalidRequest("--publish copies the results of --table DIR; name that folder.", param="publish")
    if table is not None:
        result = draw(table if publish is None else _published(table, publish))
        finish(result, _drawn_words(result), as_json=as_json)
        return
    from tvaccine_core.experiments.grid import read_grid

    read = read_grid(grid or Path())
    if plan:
        counts = _counts(read)
        finish(counts, "\n".join(f"{name}: {value}" for name, value in counts.items()), as_json=as_json)
        return
    if out is None:
        raise InvalidRequest("Say where the results go: --out DIR.", param="out")
    _finish_run(_run(read, out), out, as_json)


def _run(grid: Grid, out: Path) -> Any:
    from tvaccine_core.experiments.runner import run_grid
    from tvaccine_core.training.stop import Stopped

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        return run_grid(grid, out, say=lambda text: say(f"tvaccine: {text}"), should_stop=stop.is_set)
    except Stopped:
        say(f"tvaccine: stopped; the same command goes on from what is in {out}")
        raise typer.Exit(STOPPED_STATUS) from None


def _finish_run(outcome: Any, out: Path, as_json: bool) -> None:
    result = {"done": outcome.done, "new": outcome.new, "failed": outcome.failed, **draw(out)}
    words = [f"{outcome.done} cells are done, {outcome.new} of them now", _drawn_words(result)]
    words += [f"failed: {note['coordinates']}: {note['error']['message']}" for note in outcome.failed]
    finish(result, "\n".join(words), as_json=as_json)
    if outcome.failed:
        raise typer.Exit(FAILED_STATUS)


def draw(folder: Path) -> dict[str, Any]:
    """Tables, figures and, for a sweep, the chosen settings, all in `folder`; their paths."""
    from tvaccine_core.experiments.choosing import write_sweep
    from tvaccine_core.experiments.figures import draw_figures
    from tvaccine_core.experiments.plan_file import read_plan
    from tvaccine_core.experiments.tables import write_tables

    planned = read_plan(folder)
    tables = write_tables(planned, folder)
    pictures = draw_figures(planned, folder / FIGURES)
    sweep = write_sweep(planned, folder)
    return {
        "tables": [str(path) for path in tables],
        "figures": [str(path) for path in pictures],
        "sweep": sweep and str(sweep),
    }


def _published(table: Path, to: Path) -> Path:
    from tvaccine_core.experiments.publication import publish

    publish(table, to)
    return to


def _drawn_words(result: dict[str, Any]) -> str:
    lines = [f"Tables: {', '.join(result['tables'])}", f"Figures: {', '.join(result['figures']) or 'none yet'}"]
    return "\n".join([*lines, f"Sweep: {result['sweep']}"] if result["sweep"] else lines)


def _counts(grid: Grid) -> dict[str, Any]:
    """How much a grid is."""
    from tvaccine_core.experiments.grid import cells

    vaccines = {
        repr((method.seconds, settings.to_dict()))
        for method in grid.methods
        for seed in grid.seeds
        if (settings := method.alignment_settings(seed)) is not None
    }
    return {
        "title": grid.title,
        "cells": len(cells(grid)),
        "vaccines": len(vaccines),
        "methods": [method.name for method in grid.methods],
        "attacks": [f"{plan.label} {plan.attack.ratio:g}" for plan in grid.attacks],
        "strengths": [strength.name for strength in grid.strengths],
        "tasks": [task.name for task in grid.tasks],
        "seeds": list(grid.seeds),
    }
