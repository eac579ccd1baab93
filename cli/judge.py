"""`tvaccine judge train`, `eval` and `calibrate`: make a judge, measure one, choose its threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.judge_table import calibration_table, judge_table
from cli.output import JsonOption, finish, say
from tvaccine_core.evaluation.judge.tuning_config import TuningConfig

judge_app = typer.Typer(help="The judge that decides whether an answer is harmful.", no_args_is_help=True)

Data = Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Labelled rows, JSON Lines.")]
BaseName = Annotated[str | None, typer.Option(help="Base model; default: the embedded one.")]


@judge_app.command("train")
def train_command(
    data: Data,
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory for the judge.")],
    base: BaseName = None,
    all_licences: Annotated[
        bool, typer.Option("--all-licences", help="Use all sources; the judge is then for research only.")
    ] = False,
    probe_only: Annotated[
        bool, typer.Option("--probe-only", help="A linear probe alone: minutes instead of an hour on a CPU.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the rows.")] = TuningConfig.epochs,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a judge on the rows of split "train" whose licence permits it; measure it on split "test".

    Cut off, it goes on from OUT/tuning.pt when started again.
    """
    from tvaccine_core.evaluation.judge.rows import read_judge_rows
    from tvaccine_core.evaluation.judge.study import train_judge
    from tvaccine_core.models.base import load_base
    from tvaccine_core.models.registry import EMBEDDED

    rows = read_judge_rows(data)
    loaded = load_base(base or EMBEDDED, dtype=dtype, device=device)
    tuning = None if probe_only else TuningConfig(epochs=epochs)
    card = train_judge(loaded, rows, out, all_licences=all_licences, tuning=tuning, log=_log)
    words = [f"Judge {card['name']} {card['version']} lies in {out}"]
    if card["test"]:
        words += judge_table(card["test"], card["test_tfidf"], card["difference"], card["seconds_per_row"])
    finish({"out": str(out), **card}, "\n".join(words), as_json=as_json)


@judge_app.command("eval")
def eval_command(
    data: Data,
    judge: Annotated[str | None, typer.Option(help="A judge's name or directory; default: the shipped one.")] = None,
    train_data: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Training rows of the TF-IDF line; default: DATA's."),
    ] = None,
    all_licences: Annotated[
        bool, typer.Option("--all-licences", help="Train TF-IDF on all sources, as the judge was.")
    ] = False,
    base: BaseName = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure a judge on the rows of split "test" (all rows without a split), beside TF-IDF."""
    from tvaccine_core.evaluation.judge.loading import load_judge
    from tvaccine_core.evaluation.judge.rows import own_rows, permitted, read_judge_rows
    from tvaccine_core.evaluation.judge.study import evaluate_judge
    from tvaccine_core.models.base import load_base
    from tvaccine_core.models.registry import EMBEDDED

    test = [row for row in read_judge_rows(data) if row.split == "test"]
    offered = [row for row in read_judge_rows(train_data or data) if row.split == "train"]
    public = offered if all_licences else permitted(offered)
    loaded = load_base(base or EMBEDDED, dtype=dtype, device=device)
    train = [*public, *own_rows()] if public else []
    result = evaluate_judge(load_judge(judge, loaded, allow_comparison=True), test, train, _log)
    words = judge_table(result["judge"], result["tfidf"], result["difference"], result["seconds_per_row"])
    finish(result, "\n".join(words), as_json=as_json)


@judge_app.command("calibrate")
def calibrate_command(
    judge: Annotated[str, typer.Option(help="A judge's name or directory.")],
    data: Data,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="File for the threshold, F.json.")] = None,
    base: BaseName = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Choose a judge's threshold on the rows of split "train" (all rows if there are none), and say what it costs.

    The judge is then called NAME@F.json wherever a judge is named.
    """
    from tvaccine_core.evaluation.judge.calibration import calibrate_judge, calibration_rows
    from tvaccine_core.evaluation.judge.loading import load_judge
    from tvaccine_core.evaluation.judge.names import calibrated_name
    from tvaccine_core.models.base import load_base
    from tvaccine_core.models.digest import sha256_of
    from tvaccine_core.models.registry import EMBEDDED

    name = None if out is None else calibrated_name(judge, out)
    rows, digest = calibration_rows(data), sha256_of([data])
    loaded = load_base(base or EMBEDDED, dtype=dtype, device=device)
    found = calibrate_judge(load_judge(judge, loaded, allow_comparison=True), rows, digest, _log)
    if out is not None:
        found.write(out)
    result = found.to_dict()
    words = calibration_table(result) + ([f"The judge with this threshold is called {name}"] if name else [])
    finish({"out": out and str(out), **result}, "\n".join(words), as_json=as_json)


def _log(text: str) -> None:
    say(f"tvaccine: {text}")
