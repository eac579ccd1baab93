"""`tvaccine vaccinate`: make a vaccine on this machine, without a service."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import JsonOption, finish, say
from tvaccine_core.alignment.methods import DEFAULT_METHOD, METHODS, alignment_config
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.errors import InvalidRequest, UnsupportedArchitecture

STOPPED_STATUS = 75


def vaccinate_command(
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory for the vaccine.")],
    base: Annotated[str | None, typer.Option(help="Base model; default: the embedded one.")] = None,
    alignment: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Alignment rows; default: the demo's.")
    ] = None,
    harmful: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Rows with harmful answers; default: the demo's.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"One of: {', '.join(METHODS)}. Default: {DEFAULT_METHOD}.")
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setting of the method; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in OUT.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Align the base; Ctrl-C saves a checkpoint, the same command resumes from it."""
    from tvaccine_core.data.datasets import demo_file
    from tvaccine_core.models.registry import EMBEDDED

    settings = parse_settings(method, config or [])
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    alignment = alignment or demo_file("alignment")
    harmful = harmful or demo_file("probe")
    _say_estimate(base or EMBEDDED, settings)
    done = _align(base or EMBEDDED, alignment, harmful, out, settings, stop, resume=resume)
    if not done:
        say(f"tvaccine: stopped; the same command goes on from the checkpoint in {out}")
        raise typer.Exit(STOPPED_STATUS)
    report = json.loads((out / "report.json").read_text("utf-8"))
    finish({"out": str(out), "report": report}, f"The vaccine lies in {out}", as_json=as_json)


def _say_estimate(base: str, settings: AlignmentSettings) -> None:
    """What a step will need of memory, where that can be told from the model's configuration."""
    from tvaccine_core.alignment.estimate import estimate_memory
    from tvaccine_core.models.base import base_config, choose_device, choose_dtype

    try:
        say(f"tvaccine: {estimate_memory(base_config(base), settings, choose_dtype('auto', choose_device('auto')))}")
    except (InvalidRequest, UnsupportedArchitecture) as error:
        say(f"tvaccine: no estimate of memory: {error.message}")


def _align(
    base: str,
    alignment: Path,
    harmful: Path,
    out: Path,
    settings: AlignmentSettings,
    stop: threading.Event,
    *,
    resume: bool,
) -> bool:
    from tvaccine_core.alignment.run import align
    from tvaccine_core.training.checkpoints import latest_checkpoint
    from tvaccine_core.training.stop import Stopped

    resume_from = latest_checkpoint(out / "checkpoints") if resume else None
    if resume_from is not None:
        say(f"tvaccine: going on from {resume_from}")
    try:
        align(base, alignment, harmful, out, settings, resume_from=resume_from, should_stop=stop.is_set)
    except Stopped:
        return False
    return True


def parse_settings(method: str | None, pairs: list[str]) -> AlignmentSettings:
    """The settings of `--method` and `--config`.

    Raises:
        InvalidRequest: names the field at fault, or the method is given twice.
    """
    values = parse_config(pairs)
    if method is not None:
        if "method" in values:
            raise InvalidRequest("The method is given twice: as --method and in --config.", param="method")
        values["method"] = method
    return alignment_config(values)


def parse_config(pairs: list[str]) -> dict[str, Any]:
    """``["steps=80", "rho=0.3", "select=topk"]`` as a mapping; values are JSON, or else text.

    Raises:
        InvalidRequest: a pair without ``=`` or a name given twice.
    """
    config: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"--config {pair}: write it as name=value.", param="config")
        if name in config:
            raise InvalidRequest(f"--config {name} is given twice.", param="config")
        try:
            config[name] = json.loads(value)
        except ValueError:
            config[name] = value
    return config
