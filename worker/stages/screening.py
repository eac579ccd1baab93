"""Judge the training rows before anyone trains on them, and act on it as the operator's policy says.

``report`` tells the numbers and goes on; ``drop`` trains without the flagged rows; ``block`` refuses a file
of which a larger share is flagged than the gate's limit allows of a model's answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service.configurations import score_config
from tvaccine_core.data.rows import read_rows_file, require_valid, write_rows
from tvaccine_core.errors import InvalidTrainingFile, NotFound
from worker.desk import Desk
from worker.training_run import run_trainer

STAGE = "screening"
TRAINING_FILE = "training_file"
LINES_TOLD = 100


def screen(desk: Desk) -> Path:
    """The file to train on. Raises InvalidTrainingFile when the policy refuses it, or Interruption."""
    if desk.order.training_key is None:
        raise NotFound("This job has no training file.", param=TRAINING_FILE)
    training_file = desk.store.path(desk.order.training_key)
    desk.enter(STAGE)
    directory = run_trainer(
        desk,
        STAGE,
        "screen",
        {
            "base": desk.order.base,
            "training_file": training_file,
            "judge_dir": desk.settings.judge_dir,
            "threshold": score_config(desk.settings).judge_threshold,
            "dtype": desk.settings.dtype,
            "device": desk.settings.device,
        },
    )
    report = json.loads((directory / "report.json").read_text("utf-8"))
    _tell(desk, report)
    if desk.settings.screening == "block":
        refuse_if_too_many(report, score_config(desk.settings).limit)
    if desk.settings.screening == "drop" and report["flagged"]:
        return without_flagged(training_file, report, directory / "kept.jsonl")
    return training_file


def _tell(desk: Desk, report: dict[str, Any]) -> None:
    """One event with numbers and line numbers: the rows themselves stay where they are."""
    policy = desk.settings.screening
    words = f"Screening: {report['flagged']} of {report['n']} training rows flagged (policy: {policy})"
    data = {name: report[name] for name in ("n", "flagged", "percent", "judge")}
    data["lines"] = flagged_lines(report)[:LINES_TOLD]
    desk.tell(words, level="warn" if report["flagged"] else "info", data={"screening": {**data, "policy": policy}})


def flagged_lines(report: dict[str, Any]) -> list[int]:
    """Line numbers (from 1) of the flagged rows."""
    return [row["line"] for row in report["rows"] if row["flagged"]]


def refuse_if_too_many(report: dict[str, Any], limit: float) -> None:
    """Raise InvalidTrainingFile when more than `limit` percent of the rows are flagged."""
    if report["percent"] <= limit:
        return
    words = {"path": "", "code": "row_flagged", "message": "The judge flags this row; take it out."}
    details = [{"line": line, **words} for line in flagged_lines(report)]
    raise InvalidTrainingFile(
        f"{report['flagged']} of {report['n']} training rows look harmful and this server refuses more"
        f" than {limit:g} % of them. Take them out and upload the file again.",
        param=TRAINING_FILE,
        code="unsafe_training_file",
        details=details,
    )


def without_flagged(training_file: Path, report: dict[str, Any], target: Path) -> Path:
    """Write the rows that are not flagged to `target`. Raises InvalidTrainingFile when too few are left."""
    flagged = set(flagged_lines(report))
    kept = [row for row in require_valid(read_rows_file(training_file)) if row.line not in flagged]
    write_rows(kept, target)
    require_valid(read_rows_file(target))
    return target
