"""The supervised child: one run of the core, which leaves a directory.

``python -m worker.trainer SPEC.json --parent PID``, where the file is ``{"stage": ..., "arguments": {...}}``.
The stages are those of `RUNS`. The arguments are those of the stage's function in the core, with paths as
strings and the configuration as a mapping. Exit status: 0 done, 75 stopped on SIGTERM with a checkpoint
saved, 65 the input is at fault (``error.json`` in the run's directory says how), anything else is a crash.
This is the only module of the worker that loads torch.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvaccine_core.errors import TVaccineError
from worker.supervisor import BAD_DATA, DONE, STOPPED
from worker.tether import die_with_parent, exit_on_eof

CRASHED = 1

Arguments = dict[str, Any]
Run = Callable[[Arguments, Callable[[], bool]], None]


def _align(arguments: Arguments, should_stop: Callable[[], bool]) -> None:
    from tvaccine_core.alignment.methods import alignment_config
    from tvaccine_core.alignment.run import align

    config = alignment_config(arguments.pop("config"))
    align(config=config, should_stop=should_stop, **arguments)


def _fine_tune(arguments: Arguments, should_stop: Callable[[], bool]) -> None:
    from tvaccine_core.finetuning.config import FineTuneConfig
    from tvaccine_core.finetuning.defences import defence_config
    from tvaccine_core.finetuning.run import fine_tune

    config = FineTuneConfig.from_dict(arguments.pop("config"))
    defence = defence_config(arguments.pop("defences", []))
    fine_tune(config=config, defence=defence, should_stop=should_stop, **arguments)


def _repair(arguments: Arguments, should_stop: Callable[[], bool]) -> None:
    from tvaccine_core.repair.config import RepairConfig
    from tvaccine_core.repair.panacea import repair

    config = RepairConfig.from_dict(arguments.pop("config"))
    repair(config=config, should_stop=should_stop, **arguments)


def _certify(arguments: Arguments, should_stop: Callable[[], bool]) -> None:
    from tvaccine_core.certificate.config import CertificateConfig
    from tvaccine_core.certificate.run import certify

    config = CertificateConfig.from_dict(arguments.pop("config"))
    certify(config=config, should_stop=should_stop, **arguments)


def _score(arguments: Arguments, should_stop: Callable[[], bool]) -> None:
    from tvaccine_core.evaluation.config import ScoreConfig
    from tvaccine_core.evaluation.run import score

    config = ScoreConfig.from_dict(arguments.pop("config"))
    score(config=config, should_stop=should_stop, **arguments)


def _screen(arguments: Arguments, should_stop: Callable[[], bool]) -> None:
    from tvaccine_core.evaluation.screening import screen
    from tvaccine_core.evaluation.screening_config import ScreenConfig

    config = ScreenConfig.from_dict(arguments.pop("config"))
    screen(config=config, should_stop=should_stop, **arguments)


RUNS: dict[str, Run] = {
    "align": _align,
    "certify": _certify,
    "fine_tune": _fine_tune,
    "repair": _repair,
    "score": _score,
    "screen": _screen,
}


def as_paths(arguments: Arguments) -> Arguments:
    """Turn the arguments that name places (`out`, `resume_from`, `*_file`, `*_dir`) into paths."""

    def is_place(name: str) -> bool:
        return name in ("out", "resume_from") or name.endswith(("_file", "_dir"))

    return {name: Path(value) if is_place(name) and value is not None else value for name, value in arguments.items()}


def run(spec: dict[str, Any], should_stop: Callable[[], bool]) -> int:
    """Do the run that `spec` names; returns the exit status."""
    from tvaccine_core.training.stop import Stopped

    arguments = as_paths(spec["arguments"])
    out: Path = arguments["out"]
    out.mkdir(parents=True, exist_ok=True)
    try:
        RUNS[spec["stage"]](arguments, should_stop)
    except Stopped:
        return STOPPED
    except TVaccineError as error:
        _write_error(out / "error.json", error)
        # A 5xx may go better next time, so it counts as a crash; a 4xx is for the user to mend.
        return BAD_DATA if error.status < 500 else CRASHED
    return DONE


def _write_error(path: Path, error: TVaccineError) -> None:
    half = path.with_name(f".{path.name}.part")
    half.write_text(json.dumps(error.to_dict()), "utf-8")
    half.replace(path)


class StopSwitch:
    """SIGTERM as a `should_stop`. Before the run first asks, there is nothing to save: then the process ends at once.

    Loading a large model can take longer than the grace a worker gives its trainer.
    """

    def __init__(self) -> None:
        self._told = threading.Event()
        self._asked = False

    def __call__(self) -> bool:
        """Has the run been told to stop?"""
        self._asked = True
        return self._told.is_set()

    def on_signal(self, *_: object) -> None:
        """To be called on SIGTERM."""
        self._told.set()
        if not self._asked:
            os._exit(STOPPED)


def main(argv: list[str]) -> int:
    """Tie this process to its parent before anything slow happens, then run."""
    parser = argparse.ArgumentParser(prog="worker.trainer")
    parser.add_argument("spec", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(argv)
    die_with_parent(options.parent)
    exit_on_eof(0)
    stop = StopSwitch()
    signal.signal(signal.SIGTERM, stop.on_signal)
    status = run(json.loads(options.spec.read_text("utf-8")), stop)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not through the interpreter's shutdown: threads of native libraries have no say in the outcome.
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
