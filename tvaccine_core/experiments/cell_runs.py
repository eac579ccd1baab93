"""The parts of a cell that load a model: fine-tuning, repair, and measurement before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.attack import Attack
from tvaccine_core.attacks.written_refusals import NEW_TOKENS
from tvaccine_core.experiments.attack_files import ROWS_FILE
from tvaccine_core.experiments.cost import measured
from tvaccine_core.experiments.evaluation_plan import EvaluationPlan
from tvaccine_core.experiments.grid import Cell, Grid
from tvaccine_core.experiments.materials import Materials
from tvaccine_core.experiments.measuring import Examination, examination
from tvaccine_core.experiments.store import Store, Thing, identity_of
from tvaccine_core.experiments.training_runs import run_once
from tvaccine_core.finetuning.run import fine_tune
from tvaccine_core.metrics.answering import greedy
from tvaccine_core.models.base import load_base
from tvaccine_core.repair.noise import add_noise
from tvaccine_core.repair.noise_config import NoiseConfig
from tvaccine_core.repair.panacea import repair

USER = "user"
Figures = tuple[dict[str, Any], dict[str, Any], str | None]
"""Figures, the judge that decided, and the digest of the adapter that was measured."""


@dataclass(frozen=True)
class CellRuns:
    """What all cells of a grid are run with. base: name, digest and dtype; device: "cpu" or "cuda"."""

    grid: Grid
    materials: Materials
    store: Store
    base: Mapping[str, str]
    device: str
    should_stop: Callable[[], bool]

    def before(self, vaccine: Thing | None) -> Thing:
        """The figures of the model that the attack starts from, shared by all cells that start from it."""
        tasks, plan = [task.name for task in self.grid.tasks], self.grid.evaluation.before_attack()
        identity = {
            "base": self.base,
            "vaccine": vaccine and identity_of(vaccine.record["identity"]),
            "evaluation": self.evaluation(tasks, plan),
        }

        def make(folder: Path) -> dict[str, Any]:
            exam = self._examination(folder, _folder(vaccine), plan)
            figures, judge, adapter = _figures(exam, tasks, None)
            return {"results": figures, "judge": judge, "adapter_sha256": adapter}

        label = "stock" if vaccine is None else vaccine.folder.name
        return self.store.obtain("before", identity, make, label=label)

    def tune(self, folder: Path, cell: Cell, vaccine: Thing | None, rows: Thing) -> dict[str, Any]:
        """The attacked fine-tuning under the method's defence; returns its cost."""
        defence, safe = cell.method.defence, self.materials.safe()
        harmful = self.materials.provider.get("harmful")

        def run(out: Path, resume: Path | None) -> None:
            fine_tune(
                self.grid.base,
                _folder(vaccine),
                rows.folder / ROWS_FILE,
                out,
                cell.strength.config(cell.seed),
                defence=defence,
                safe_file=safe.path if safe is not None and defence.needs_safe_rows else None,
                harmful_file=harmful.path if harmful is not None and defence.needs_harmful_rows else None,
                resume_from=resume,
                should_stop=self.should_stop,
                dtype=self.base["dtype"],
                device=self.device,
            )

        return run_once(folder, run, self.device)

    def repair(self, folder: Path, cell: Cell, vaccine: Thing | None, rows: Thing, tuned: Path) -> dict[str, Any]:
        """The repair of what `tune` left in `tuned`; returns its cost."""
        settings = cell.method.repair_settings(cell.seed)
        if settings is None:
            raise ValueError("a method without repair has nothing to repair with")
        if isinstance(settings, NoiseConfig):
            with measured(self.device) as cost:
                add_noise(_folder(vaccine), tuned / USER, folder, settings)
            return cost.to_dict()

        def run(out: Path, resume: Path | None) -> None:
            repair(
                self.grid.base,
                _folder(vaccine),
                tuned / USER,
                rows.folder / ROWS_FILE,
                self.materials.provider["harmful"].path,
                out,
                settings,
                resume_from=resume,
                should_stop=self.should_stop,
                dtype=self.base["dtype"],
                device=self.device,
            )

        return run_once(folder, run, self.device)

    def after(self, folder: Path, adapter: Path, vaccine: Thing | None, task: str, attack: Attack | None) -> Figures:
        """Every figure of an attacked model: the base with this adapter. folder: keeps the answers."""
        exam = self._examination(folder, adapter, self.grid.evaluation.after_attack(), start=_folder(vaccine))
        return _figures(exam, [task], attack)

    def evaluation(self, tasks: Sequence[str], plan: EvaluationPlan) -> dict[str, Any]:
        """What the figures depend on: settings, and digests of prompts and rows."""
        rows = {task: self.materials.scored_with(task, plan) for task in tasks}
        return {**plan.settings(), "rows": rows}

    def write_refusals(self, prompts: Sequence[str]) -> list[str]:
        """The stock base as the writer of refusals: all methods meet what one model wrote."""
        loaded = load_base(self.grid.base, dtype=self.base["dtype"], device=self.device)
        return greedy(loaded.model, loaded.tokenizer)(list(prompts), NEW_TOKENS)

    def _examination(
        self, folder: Path, adapter: Path | None, plan: EvaluationPlan, *, start: Path | None = None
    ) -> Examination:
        """The base with an adapter (the stock base without), loaded."""
        place = {"dtype": self.base["dtype"], "device": self.device}
        stop = self.should_stop
        return examination(self.grid.base, adapter, plan, self.materials, folder, stop, start=start, **place)


def _figures(exam: Examination, tasks: Sequence[str], attack: Attack | None) -> Figures:
    return exam.results(tasks, attack), exam.judge_card(), exam.subject.adapter_sha256


def _folder(vaccine: Thing | None) -> Path | None:
    return None if vaccine is None else vaccine.folder
