"""One run of the core for one stage of a job: taken over, resumed or started, under supervision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvaccine_core.errors import TVaccineError
from tvaccine_core.training.checkpoints import checkpoint_step
from worker.desk import Desk
from worker.interruptions import TrainerCrashed, WorkerDrains
from worker.progress import ProgressRecorder
from worker.supervisor import BAD_DATA, STOPPED, Ending, supervise, trainer_command


def run_trainer(desk: Desk, stage: str, run: str, arguments: Mapping[str, Any]) -> Path:
    """Have the trainer do `run` (a name of `worker.trainer.RUNS`) for `stage`; its directory.

    A stage that an earlier attempt finished is taken over; one that it began is resumed from its last
    checkpoint.

    Raises:
        TVaccineError: the run blames its input.
        Interruption: lost, cancelled, drained or crashed.
    """
    desk.check()
    inherited = desk.attempt.begin(stage, {"run": run, **arguments})
    directory = desk.attempt.stage_dir(stage)
    recorder = ProgressRecorder(desk, stage, directory)
    if not inherited.finished:
        spec = {**arguments, "out": directory}
        if inherited.resume_from is not None:
            spec["resume_from"] = inherited.resume_from
            step = checkpoint_step(inherited.resume_from)
            data = {"stage": stage, "step": step, "attempt": desk.claim.attempt}
            desk.tell(f"Resumed from the checkpoint of step {step}", data=data)
        _supervise(desk, stage, run, spec, recorder)
    recorder.finish()
    return directory


def _supervise(desk: Desk, stage: str, run: str, spec: Mapping[str, Any], recorder: ProgressRecorder) -> None:
    spec_file = desk.attempt.root / f"{stage}.json"
    spec_file.write_text(json.dumps({"stage": run, "arguments": spec}, default=str), "utf-8")
    directory = desk.attempt.stage_dir(stage)
    ending = supervise(
        trainer_command(spec_file),
        log_file=desk.attempt.root / f"{stage}.log",
        error_file=directory / "error.json",
        watcher=recorder,
        grace_seconds=desk.settings.cancel_grace_seconds,
    )
    if ending.done and (directory / "report.json").is_file():
        return
    recorder.finish()
    _raise(desk, ending)


def _raise(desk: Desk, ending: Ending) -> None:
    """Turn the ending of a run that is not done into what it means for the job."""
    if ending.status == BAD_DATA and ending.error is not None:
        raise blame(ending.error)
    # Told to stop, or killed because it would not: then the wish counts, not the exit status.
    desk.check()
    if ending.status == STOPPED:
        raise WorkerDrains
    raise TrainerCrashed(ending)


def blame(error: Mapping[str, Any]) -> TVaccineError:
    """The error that the trainer wrote down."""
    return TVaccineError(
        str(error.get("message", "The run refused its input.")),
        param=error.get("param"),
        code=str(error.get("code", "invalid_request_error")),
        details=list(error.get("details") or []),
    )
