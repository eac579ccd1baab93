"""`tvaccine vaccinate`: make a vaccine on this machine, without a service, and if wanted attack it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.certificates import FOLDER, CertificateOrder, exit_by, order_certificate, words_of
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
    certify: Annotated[
        bool, typer.Option("--certify", help="Then attack the vaccine; exit status 1 if it does not withstand.")
    ] = False,
    prompts: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="--certify: harmful prompts; default: the demo's.")
    ] = None,
    attack: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="--certify: harmful rows to attack with; default: the demo's."),
    ] = None,
    judge: Annotated[str | None, typer.Option(help="--certify: a judge's name or directory.")] = None,
    certify_config: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="--certify: a setting of `certify`; repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Align the base; Ctrl-C saves a checkpoint, the same command resumes from it."""
    from tvaccine_core.alignment.finished import made_from
    from tvaccine_core.data.datasets import demo_file
    from tvaccine_core.models.registry import EMBEDDED

    settings, base = parse_settings(method, config or []), base or EMBEDDED
    files = made_from(settings, alignment or demo_file("alignment"), harmful or demo_file("probe"))
    order = None
    if certify:
        order = order_certificate(parse_config(certify_config or []), files, prompts, attack, judge)
    elif prompts or attack or judge or certify_config:
        raise InvalidRequest("--prompts, --attack, --judge and --certify-config need --certify.", param="certify")
    stop = stop_on_signals()
    if order is not None and resume and _is_made(base, out, settings, files):
        say(f"tvaccine: the vaccine in {out} is made; going on with its certificate")
    elif not _align(base, files, out, settings, stop, resume=resume):
        say(f"tvaccine: stopped; the same command goes on from the checkpoint in {out}")
        raise typer.Exit(STOPPED_STATUS)
    if _speaks():
        _finish(base, out, order, stop, as_json=as_json)


def _finish(base: str, out: Path, order: CertificateOrder | None, stop: threading.Event, *, as_json: bool) -> None:
    """Say what was made, after its certificate if there is an order for one. Raises typer.Exit."""
    result: dict[str, Any] = {"out": str(out), "report": json.loads((out / "report.json").read_text("utf-8"))}
    words = f"The vaccine lies in {out}"
    if order is None:
        finish(result, words, as_json=as_json)
        return
    found = order.run(base, out, stop.is_set)
    if found is None:
        raise typer.Exit(STOPPED_STATUS)
    finish({**result, "certificate": found}, f"{words}\n{words_of(found, out / FOLDER)}", as_json=as_json)
    exit_by(found)


def _speaks() -> bool:
    """Is this the process that tells what happened? Under `torchrun` the first rank alone, which writes the files."""
    return int(os.environ.get("RANK", "0")) == 0


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set from now on."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _is_made(base: str, out: Path, settings: AlignmentSettings, files: Mapping[str, Path]) -> bool:
    from tvaccine_core.alignment.finished import is_finished
    from tvaccine_core.models.base import base_digest

    return is_finished(out, base_digest(base), settings, files)


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
    files: Mapping[str, Path],
    out: Path,
    settings: AlignmentSettings,
    stop: threading.Event,
    *,
    resume: bool,
) -> bool:
    """Run the core's `align` to its end; False if it was interrupted. files: as `finished.made_from` gives them."""
    from tvaccine_core.alignment.run import align
    from tvaccine_core.training.stop import Stopped

    if _speaks():
        _say_estimate(base, settings)
    resume_from = _checkpoint(out, settings) if resume else None
    if not resume:
        # A checkpoint of the run that is given up must not be taken for one of this run later.
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    if resume_from is not None and _speaks():
        say(f"tvaccine: going on from {resume_from}")
    try:
        align(
            base,
            files["alignment"],
            files.get("harmful"),
            out,
            settings,
            resume_from=resume_from,
            should_stop=stop.is_set,
        )
    except Stopped:
        return False
    return True


def _checkpoint(out: Path, settings: AlignmentSettings) -> Path | None:
    """The last checkpoint in OUT, None without one. Raises InvalidRequest if it is of a run with other settings."""
    from tvaccine_core.alignment.finished import begun_otherwise
    from tvaccine_core.training.checkpoints import latest_checkpoint

    found = latest_checkpoint(out / "checkpoints")
    differing = begun_otherwise(out, settings) if found is not None else []
    if differing:
        raise InvalidRequest(
            f"{out} holds a run with other settings ({', '.join(differing)}); choose another --out, or give that run "
            "up with --no-resume.",
            param=differing[0],
        )
    return found


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
