"""`tvaccine certify`: attack a vaccine on this machine and write down what it withstood, without a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.certificates import exit_by, run_certificate, words_of
from cli.output import JsonOption, finish
from cli.vaccinate import STOPPED_STATUS, parse_config, stop_on_signals
from tvaccine_core.certificate.config import CertificateConfig
from tvaccine_core.data.datasets import demo_file


def certify_command(
    vaccine: Annotated[Path, typer.Option(exists=True, file_okay=False, help="A vaccine's directory.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory for the certificate.")],
    base: Annotated[str | None, typer.Option(help="Base model; default: the embedded one.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Harmful prompts; default: the demo's.")
    ] = None,
    harmful: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Harmful rows to attack with; default: the demo's.")
    ] = None,
    alignment: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The vaccine's alignment rows; default: the demo's."),
    ] = None,
    probe: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The vaccine's harmful rows; default: the demo's.")
    ] = None,
    benign: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Ordinary prompts; default: the demo's.")
    ] = None,
    task: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Rows of a harmless task; default: the demo's.")
    ] = None,
    heldout: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="More of its rows, to measure; default: the demo's."),
    ] = None,
    chat: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Ordinary chats that attacks rewrite; default: task."),
    ] = None,
    judge: Annotated[str | None, typer.Option(help="A judge's name or directory; default: the shipped.")] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A setting, such as prompts=104 or stock=attacked; repeatable."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Attack a vaccine; exit status 1 if it does not withstand. Ctrl-C stops, the same command goes on."""
    settings = CertificateConfig.from_dict(parse_config(config or []))
    places = {
        "prompts_file": prompts or demo_file("gate_prompts"),
        "harmful_file": harmful or demo_file("attack"),
        "alignment_file": alignment or demo_file("alignment"),
        "probe_file": probe or demo_file("probe"),
        "benign_file": benign,
        "task_file": task,
        "heldout_file": heldout,
        "chat_file": chat,
    }
    stop = stop_on_signals()
    found = run_certificate(
        base, vaccine, out, settings, should_stop=stop.is_set, judge=judge, dtype=dtype, device=device, **places
    )
    if found is None:
        raise typer.Exit(STOPPED_STATUS)
    finish({"out": str(out), "certificate": found}, words_of(found, out), as_json=as_json)
    exit_by(found)
