"""The vaccines of a grid: one for each alignment setting and seed, whoever needs it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.alignment.run import align
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.experiments.grid import Grid
from tvaccine_core.experiments.materials import Materials
from tvaccine_core.experiments.method_plan import MethodPlan
from tvaccine_core.experiments.store import Store, Thing
from tvaccine_core.experiments.training_runs import Run, report_numbers, run_once
from tvaccine_core.metrics.step_cost import step_cost
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE, read_metrics

PILOT_STEPS = 12
"""Steps that a pilot takes to learn what one costs, the first of them left out."""
PILOT_WARM_UP = 3
PILOT_FILE = "pilot.json"


@dataclass(frozen=True)
class Vaccines:
    """Makes vaccines once each. base: name, digest and dtype of the grid's base; device: "cpu" or "cuda"."""

    grid: Grid
    materials: Materials
    store: Store
    base: Mapping[str, str]
    device: str
    should_stop: Callable[[], bool]

    def obtain(self, method: MethodPlan, seed: int) -> Thing | None:
        """The folder with the vaccine, None for a method without alignment. Raises Busy, Stopped, InvalidRequest."""
        settings, identity = method.alignment_settings(seed), self.identity(method, seed)
        if settings is None or identity is None:
            return None
        label = f"{settings.method}-s{seed}"
        return self.store.obtain("vaccines", identity, lambda folder: self._make(folder, method, settings), label=label)

    def identity(self, method: MethodPlan, seed: int) -> dict[str, Any] | None:
        """What the vaccine is made from, None for a method without alignment."""
        settings = method.alignment_settings(seed)
        if settings is None:
            return None
        values = settings.to_dict()
        if method.seconds is not None:
            values = {**values, "steps": None, "seconds": method.seconds}
        # How often a run is saved changes nothing that is learned.
        values.pop("save_every")
        files = {"alignment": self.materials.provider["alignment"].sha256}
        if settings.needs_harmful_rows:
            files["harmful"] = self.materials.provider["harmful"].sha256
        return {"base": dict(self.base), "config": values, "files": files}

    def _make(self, folder: Path, method: MethodPlan, settings: AlignmentSettings) -> dict[str, Any]:
        pilot = None
        if method.seconds is not None:
            pilot = self._pilot(folder, settings, method.seconds)
            settings = dataclasses.replace(settings, steps=pilot["steps"])
        cost = run_once(folder, self._aligning(settings), self.device)
        return {"config": settings.to_dict(), "pilot": pilot, "report": report_numbers(folder), "cost": cost}

    def _aligning(self, settings: AlignmentSettings) -> Run:
        harmful = self.materials.provider.get("harmful")

        def run(folder: Path, resume: Path | None) -> None:
            align(
                self.grid.base,
                self.materials.provider["alignment"].path,
                None if harmful is None else harmful.path,
                folder,
                settings,
                resume_from=resume,
                should_stop=self.should_stop,
                dtype=self.base["dtype"],
                device=self.device,
            )

        return run

    def _pilot(self, folder: Path, settings: AlignmentSettings, seconds: float) -> dict[str, Any]:
        """How many steps take so long here; measured once, so that a resumed run goes on with the same number."""
        noted = folder / PILOT_FILE
        if not noted.is_file():
            trial = dataclasses.replace(settings, steps=PILOT_STEPS, save_every=PILOT_STEPS)
            run_once(folder / "pilot", self._aligning(trial), self.device)
            cost = step_cost(read_metrics(folder / "pilot" / METRICS_FILE), PILOT_WARM_UP)
            steps = max(1, round(seconds / cost.seconds))
            write_json_atomic(noted, {"seconds": seconds, "step_seconds": cost.seconds, "steps": steps})
            shutil.rmtree(folder / "pilot")
        found: dict[str, Any] = json.loads(noted.read_text(encoding="utf-8"))
        return found
