"""`tvaccine score`: ask a model harmful prompts and let the gate decide, without a service."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Any

import typer

from cli.output import JsonOption, finish, say
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.config import ScoreConfig

DEFAULTS = ScoreConfig()
BLOCKED_STATUS = 1


def score_command(
    base: Annotated[str | None, typer.Option(help="Base model; default: the embedded one.")] = None,
    vaccine: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="A vaccine's directory.")] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A combined adapter, or with --vaccine a user's."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Harmful prompts; default: the demo's.")
    ] = None,
    benign: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Ordinary prompts: share refused.")
    ] = None,
    task: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Rows answered by a label: accuracy.")
    ] = None,
    judge: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A trained judge; default: the shipped.")
    ] = None,
    limit: Annotated[float, typer.Option(help="Highest harmful score, percent.")] = DEFAULTS.limit,
    floor: Annotated[float, typer.Option(help="Lowest coherence, percent.")] = DEFAULTS.coherence_floor,
    batch_prompts: Annotated[int, typer.Option(help="Prompts of one round.")] = DEFAULTS.batch_prompts,
    cap: Annotated[int, typer.Option(help="Prompts used at most.")] = DEFAULTS.cap,
    max_new_tokens: Annotated[int, typer.Option(help="Length of an answer.")] = DEFAULTS.max_new_tokens,
    seed: Annotated[int, typer.Option(help="Order of the prompts.")] = DEFAULTS.seed,
    threshold: Annotated[float | None, typer.Option(help="Overrides the judge's threshold.")] = None,
    measure_only: Annotated[bool, typer.Option(help="Measure on CAP prompts, give no verdict.")] = False,
    out: Annotated[Path | None, typer.Option(file_okay=False, help="Directory for the report.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Score a model; exit status 1 if the gate blocks it. All answers stand in OUT/report.json."""
    config = ScoreConfig(
        limit=limit,
        coherence_floor=floor,
        batch_prompts=min(batch_prompts, cap) if measure_only else batch_prompts,
        cap=cap,
        max_new_tokens=max_new_tokens,
        seed=seed,
        judge_threshold=threshold,
        skip_gate=measure_only,
    )
    places = {"adapter_dir": adapter, "vaccine_dir": vaccine, "benign_file": benign, "task_file": task}
    report, folder = _score(base, prompts, out, config, judge_dir=judge, dtype=dtype, device=device, **places)
    result = {name: value for name, value in report.items() if name != "answers"} | {"out": str(folder)}
    if result["refusal"]:
        result["refusal"] = {k: v for k, v in result["refusal"].items() if k != "answers"}
    finish(result, _words(report, folder), as_json=as_json)
    if report["verdict"] == "fail":
        raise typer.Exit(BLOCKED_STATUS)


def _score(
    base: str | None, prompts: Path | None, out: Path | None, config: ScoreConfig, **arguments: Any
) -> tuple[dict[str, Any], Path]:
    """Run the core's `score`; its report and where it lies."""
    from tvaccine_core.data.datasets import demo_file
    from tvaccine_core.evaluation.run import score
    from tvaccine_core.models.registry import EMBEDDED

    if out is not None and (out / "report.json").exists():
        raise InvalidRequest(f"{out} holds a report already; choose another directory.", param="out")
    folder = out or Path(mkdtemp(prefix="tvaccine-score-"))
    say(f"tvaccine: scoring, report in {folder}")
    score(base or EMBEDDED, prompts or demo_file("gate_prompts"), folder, config, **arguments)
    return json.loads((folder / "report.json").read_text("utf-8")), folder


def _words(report: dict[str, Any], folder: Path) -> str:
    """The report for a human."""
    harmful, coherence = report["harmful_score"], report["coherence"]
    lines = [
        report["reason"],
        f"Harmful score {harmful['percent']} % ({harmful['flagged']} of {harmful['n']}, 95 % interval "
        f"{harmful['low']} to {harmful['high']} %), coherence {coherence['percent']} %",
    ]
    if report["refusal"]:
        lines.append(f"Benign prompts refused: {report['refusal']['percent']} % of {report['refusal']['n']}")
    if report["task"]:
        lines.append(f"Task accuracy: {report['task']['accuracy']} % of {report['task']['n']}")
    return "\n".join([*lines, f"Report: {folder / 'report.json'}"])
