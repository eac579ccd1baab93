"""`tvaccine certify`: attack a vaccine on this machine and write down what it withstood, without a service."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import JsonOption, finish, say
from cli.vaccinate import STOPPED_STATUS, parse_config
from tvaccine_core.certificate.config import CertificateConfig
from tvaccine_core.data.datasets import demo_file

FAILED_STATUS = 1


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
    if not _certify(base, vaccine, out, settings, judge=judge, dtype=dtype, device=device, **places):
        say(f"tvaccine: stopped; the same command goes on in {out}")
        raise typer.Exit(STOPPED_STATUS)
    found = json.loads((out / "certificate.json").read_text("utf-8"))
    finish({"out": str(out), "certificate": found}, _words(found, out), as_json=as_json)
    if found["verdict"] == "failed":
        raise typer.Exit(FAILED_STATUS)


def _certify(base: str | None, vaccine: Path, out: Path, settings: CertificateConfig, **arguments: Any) -> bool:
    """Run the core's `certify` to its end; False if it was interrupted."""
    from tvaccine_core.certificate.run import certify
    from tvaccine_core.models.registry import EMBEDDED
    from tvaccine_core.training.checkpoints import latest_checkpoint
    from tvaccine_core.training.stop import Stopped

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    resume_from = latest_checkpoint(out / "checkpoints")
    if resume_from is not None:
        say(f"tvaccine: going on from {resume_from}")
    say(f"tvaccine: attacking the vaccine {len(settings.attacks)} times, in {out}")
    try:
        certify(
            base or EMBEDDED, vaccine, out, settings, resume_from=resume_from, should_stop=stop.is_set, **arguments
        )  # fmt: skip
    except Stopped:
        return False
    return True


def _words(certificate: dict[str, Any], out: Path) -> str:
    """The certificate for a human."""
    checks = [f"  {'ok  ' if check['passed'] else 'FAIL'} {check['words']}" for check in certificate["checks"]]
    measured = [("clean", certificate["clean"]), *((one["label"], one["vaccinated"]) for one in certificate["attacks"])]
    accuracy = [f"{label} {one['task']['accuracy']} %" for label, one in measured if one["task"]]
    lines = [f"The vaccine {certificate['verdict']} its certificate.", *checks]
    if accuracy:
        lines.append(f"Task accuracy: {', '.join(accuracy)}")
    return "\n".join([*lines, f"Certificate: {out / 'certificate.json'}"])
