"""The course of a certificate: its parts one after the other, each kept as soon as it is measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.certificate.measuring import FIGURES, WORK, Site
from tvaccine_core.certificate.parts import Part
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.training.checkpoints import checkpoint_step, latest_checkpoint, open_checkpoint, seal_checkpoint
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE, MetricsWriter
from tvaccine_core.training.stop import Stopped

STAGE = "certifying"
PARTS, CHECKPOINTS = "parts", "checkpoints"


@dataclass(frozen=True)
class Course:
    """The parts of one run in `out`. checkpoint-N holds the figures of the first N parts, and nothing else."""

    out: Path
    parts: list[Part]

    def open(self, orders: Mapping[str, Any], resume_from: Path | None) -> None:
        """Makes `out`, or finds it as an earlier run with the same orders left it; takes over a checkpoint's parts.

        Raises InvalidRequest if `out` was another one's.
        """
        place = self.out / "config.json"
        if place.is_file() and json.loads(place.read_text(encoding="utf-8")) != json.loads(json.dumps(orders)):
            message = f"{self.out.name} holds parts of another certificate; choose another directory."
            raise InvalidRequest(message, param="out")
        write_json_atomic(place, orders)
        for part in self.parts:
            kept = None if resume_from is None else resume_from / f"{part.name}.json"
            if kept is not None and kept.is_file():
                write_json_atomic(self._figures_file(part), json.loads(kept.read_text(encoding="utf-8")))
        self._metrics().restore_from(resume_from)

    def follow(self, site: Site, resume_from: Path | None) -> None:
        """Measures what is not measured yet. Raises Stopped between or within parts, and what `Site.measure` raises."""
        told = 0 if resume_from is None else checkpoint_step(resume_from)
        for number, part in enumerate(self.parts, start=1):
            folder = self._figures_file(part).parent
            if not self._figures_file(part).is_file():
                if site.should_stop():
                    raise Stopped(number - 1, latest_checkpoint(self.out / CHECKPOINTS))
                site.measure(part, folder)
            shutil.rmtree(folder / WORK, ignore_errors=True)
            if number > told:
                self._metrics().write(number, _numbers(self._read(part)))
                self._keep(number)

    def figures(self) -> dict[str, dict[str, Any]]:
        """What was measured, by the parts' names, once all of it is."""
        return {part.name: self._read(part) for part in self.parts}

    def _keep(self, number: int) -> None:
        checkpoint = self.out / CHECKPOINTS / f"checkpoint-{number}"
        open_checkpoint(checkpoint)
        for part in self.parts[:number]:
            shutil.copyfile(self._figures_file(part), checkpoint / f"{part.name}.json")
        self._metrics().keep_in(checkpoint)
        seal_checkpoint(checkpoint)

    def _figures_file(self, part: Part) -> Path:
        return self.out / PARTS / part.name / FIGURES

    def _read(self, part: Part) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self._figures_file(part).read_text(encoding="utf-8"))
        return values

    def _metrics(self) -> MetricsWriter:
        return MetricsWriter(self.out / METRICS_FILE, stage=STAGE, total=len(self.parts))


def _numbers(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """What a line of the metrics says of a part, percent."""
    task = figures["task"]
    return {
        "harmful_score": figures["harmful_score"]["percent"],
        "over_refusal": figures["over_refusal"]["percent"],
        "task_accuracy": None if task is None else task["accuracy"],
    }
