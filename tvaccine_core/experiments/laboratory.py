"""Runs the cells of a grid: vaccine, attack, repair and measurement, each done once and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tvaccine_core.experiments.attack_files import AttackFiles
from tvaccine_core.experiments.cell_runs import CellRuns
from tvaccine_core.experiments.cost import measured
from tvaccine_core.experiments.grid import Cell, Grid
from tvaccine_core.experiments.materials import Materials, Preparation
from tvaccine_core.experiments.method_plan import MethodPlan
from tvaccine_core.experiments.plan_file import CELL_FILE
from tvaccine_core.experiments.store import Store, Thing, identity_of
from tvaccine_core.experiments.training_runs import report_numbers
from tvaccine_core.experiments.vaccines import Vaccines
from tvaccine_core.experiments.version import code_version, surroundings
from tvaccine_core.models.base import choose_device, choose_dtype, load_base

SCHEMA = "tvaccine.bench_cell/1"
TUNED, REPAIRED, COMBINED = "tuned", "repaired", "combined"


class Laboratory:
    """Everything that the cells of one grid share. Making one reads all rows and writes them under `out`."""

    def __init__(self, grid: Grid, out: Path, should_stop: Callable[[], bool]) -> None:
        self.grid = grid
        self.store = Store(out)
        self.should_stop = should_stop
        self._folders: dict[str, Path] = {}
        self.device = choose_device(grid.device).type
        dtype = str(choose_dtype(grid.dtype, choose_device(grid.device))).removeprefix("torch.")
        loaded = load_base(grid.base, dtype=dtype, device=self.device)
        self.base = {"name": loaded.name, "digest": loaded.digest, "dtype": dtype}
        self.materials: Materials = Preparation(grid, out / "data", loaded.tokenizer).materials()
        self.vaccines = Vaccines(grid, self.materials, self.store, self.base, self.device, should_stop)
        self.runs = CellRuns(grid, self.materials, self.store, self.base, self.device, should_stop)
        self.attacks = AttackFiles(self.store, self.materials, self.base, self.runs.write_refusals)

    def identity(self, cell: Cell) -> dict[str, Any]:
        """All that the cell's figures depend on: settings and digests, no names. Cells with the same one are one."""
        vaccine = self.vaccines.identity(cell.method, cell.seed)
        fixed = cell.method.repair_settings(cell.seed)
        attack = cell.attack.attack
        return {
            "base": self.base,
            "vaccine": vaccine and identity_of(vaccine),
            "defences": cell.method.defence.to_list(),
            "repair": fixed and fixed.to_dict(),
            "provider": {name: self.materials.provider[name].sha256 for name in self._opened(cell.method)},
            "training": cell.strength.config(cell.seed).to_dict(),
            "attack": identity_of(self.attacks.identity(cell.attack, cell.task.name, cell.seed)),
            "asked_as": attack.to_dict() if _asks_otherwise(cell) else None,
            "task": cell.task.name,
            "evaluation": self.runs.evaluation([cell.task.name], self.grid.evaluation),
        }

    def folder(self, cell: Cell) -> Path:
        """Where the cell lies, or would; cells of one identity have one folder."""
        identity = self.identity(cell)
        return self._folders.setdefault(identity_of(identity), self.store.folder("cells", identity, _label(cell)))

    def obtain(self, cell: Cell) -> Thing:
        """The finished cell, run now unless it is there. Raises Busy, Stopped, and the errors of its parts."""
        make = partial(self._make, cell)
        return self.store.obtain("cells", self.identity(cell), make, label=_label(cell), record=CELL_FILE)

    def _make(self, cell: Cell, folder: Path) -> dict[str, Any]:
        vaccine = self.vaccines.obtain(cell.method, cell.seed)
        rows = self.attacks.obtain(cell.attack, cell.task.name, cell.seed)
        before = self.runs.before(vaccine)
        costs = {"alignment": None if vaccine is None else vaccine.record["cost"]}
        costs["fine_tuning"] = self.runs.tune(folder / TUNED, cell, vaccine, rows)
        final = folder / TUNED
        if cell.method.repair is not None:
            costs["repair"] = self.runs.repair(folder / REPAIRED, cell, vaccine, rows, folder / TUNED)
            final = folder / REPAIRED
        template = cell.attack.attack if _asks_otherwise(cell) else None
        with measured(self.device) as scoring:
            figures, judge, adapter = self.runs.after(folder, final / COMBINED, vaccine, cell.task.name, template)
        costs["scoring"] = scoring.to_dict()
        record = {
            "schema": SCHEMA,
            "coordinates": cell.coordinates,
            "family": cell.method.family,
            "tuned": dict(cell.method.tuned),
            "configuration": self._configuration(cell, vaccine, judge),
            "data": self._data(cell, rows),
            "vaccine": None if vaccine is None else _vaccine_note(vaccine),
            "before": before.record["results"],
            "results": figures,
            "costs": costs,
            "training_report": report_numbers(final),
            "adapter_sha256": adapter,
            "code": {"version": code_version(), **surroundings()},
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if not self.grid.keep_adapters:
            for part in (TUNED, REPAIRED):
                shutil.rmtree(folder / part, ignore_errors=True)
        return record

    def _opened(self, method: MethodPlan) -> list[str]:
        """The provider's rows that are opened after the alignment."""
        harmful = method.defence.needs_harmful_rows or method.repairs_with_harmful_rows
        safe = "safe" if "safe" in self.materials.provider else "alignment"
        return [*(["harmful"] if harmful else []), *([safe] if method.defence.needs_safe_rows else [])]

    def _configuration(self, cell: Cell, vaccine: Thing | None, judge: Mapping[str, Any]) -> dict[str, Any]:
        fixed = cell.method.repair_settings(cell.seed)
        return {
            "base": {**self.base, "device": self.device},
            "alignment": None if vaccine is None else vaccine.record["config"],
            "defences": cell.method.defence.to_list(),
            "repair": fixed and fixed.to_dict(),
            "attack": cell.attack.attack.to_dict(),
            "training": cell.strength.config(cell.seed).to_dict(),
            "evaluation": self.grid.evaluation.settings(),
            "judge": dict(judge),
        }

    def _data(self, cell: Cell, rows: Thing) -> dict[str, Any]:
        provider = {name: file.note() for name, file in self.materials.provider.items()}
        attacker = {name: file.note() for name, file in self.materials.attacker.items()}
        return {
            "attack_rows": {key: rows.record[key] for key in ("sha256", "rows", "poisoned", "identity")},
            "task_train": self.materials.tasks[cell.task.name].train.note(),
            "provider": provider,
            "attacker": attacker,
            "scored_with": self.materials.scored_with(cell.task.name, self.grid.evaluation),
        }


def _label(cell: Cell) -> str:
    return "--".join(f"{value}" for value in cell.coordinates.values())


def _asks_otherwise(cell: Cell) -> bool:
    """Are the prompts also put in the attack's own template? Not where nothing of the attack is left."""
    return bool(cell.attack.attack.poisoned) and cell.attack.attack.has_template


def _vaccine_note(vaccine: Thing) -> dict[str, Any]:
    return {
        "id": identity_of(vaccine.record["identity"]),
        "folder": vaccine.folder.name,
        "report": vaccine.record["report"],
        "pilot": vaccine.record["pilot"],
    }
