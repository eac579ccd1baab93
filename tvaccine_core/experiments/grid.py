"""A grid: methods x attacks x ratios x strengths x tasks x seeds, read from a YAML file. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.registry import ATTACKS
from tvaccine_core.experiments.attack_plan import AttackPlan, Strength, attack_plans, strengths, without_twins
from tvaccine_core.experiments.evaluation_plan import EvaluationPlan, evaluation_plan
from tvaccine_core.experiments.exclusions import Exclusion, exclusions, is_left_out
from tvaccine_core.experiments.grid_file import read_grid_file
from tvaccine_core.experiments.keys import different, flag, label, mapping, number, refuse, several, text, whole
from tvaccine_core.experiments.method_plan import MethodPlan, method_plan
from tvaccine_core.experiments.mixed_source import Source, source
from tvaccine_core.experiments.sweep import Sweep, sweep_plan, trials
from tvaccine_core.experiments.task_plan import TaskPlan, task_plans

KEYS = (
    "title", "base", "dtype", "device", "max_length", "data", "tasks", "methods", "reference", "attacks", "rows",
    "ratios", "training", "strengths", "seeds", "leave_out", "evaluation", "sweep", "keep_adapters",
)  # fmt: skip
NEEDED = ("base", "data", "tasks", "methods", "attacks", "strengths", "seeds", "evaluation")
PROVIDER = ("alignment", "harmful", "safe")
MADE_HERE = ("benign", "written_refusals")
"""Pools of attacks that no file holds: rows of the cell's task, and what the base itself writes."""
POOLS = sorted({name for kind in ATTACKS.values() for name in (*kind.needs, *kind.takes)} - {*MADE_HERE})
MAX_LENGTH = 256


@dataclass(frozen=True)
class Grid:
    """What is run. provider: rows that the defender holds; attacker: rows that attacks draw from, by pool.

    reference: the method that others are compared with, pair by pair. left_out: combinations that are not run.
    values: for the record, the file's own with its variables not filled in.
    """

    title: str
    base: str
    provider: Mapping[str, Source]
    attacker: Mapping[str, Source]
    tasks: tuple[TaskPlan, ...]
    methods: tuple[MethodPlan, ...]
    reference: str
    attacks: tuple[AttackPlan, ...]
    strengths: tuple[Strength, ...]
    seeds: tuple[int, ...]
    evaluation: EvaluationPlan
    max_length: int = MAX_LENGTH
    dtype: str = "auto"
    device: str = "auto"
    keep_adapters: bool = False
    sweep: Sweep | None = None
    left_out: tuple[Exclusion, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One combination. All that the attack trains with comes from the fields beside `method`: methods meet the same."""

    method: MethodPlan
    attack: AttackPlan
    strength: Strength
    task: TaskPlan
    seed: int

    @property
    def coordinates(self) -> dict[str, Any]:
        """Where the cell stands in the grid, as plain JSON values."""
        return {
            "method": self.method.name,
            "attack": self.attack.label,
            "ratio": self.attack.attack.ratio,
            "strength": self.strength.name,
            "task": self.task.name,
            "seed": self.seed,
        }

    @property
    def title(self) -> str:
        """The coordinates in one line."""
        return " / ".join(f"seed {value}" if key == "seed" else f"{value}" for key, value in self.coordinates.items())


def read_grid(path: Path) -> Grid:
    """The grid in a YAML file. Raises InvalidRequest naming the key and the remedy."""
    grid = grid_from(read_grid_file(path), path.parent, path.stem)
    return replace(grid, values=read_grid_file(path, fill=False))


def cells(grid: Grid) -> list[Cell]:
    """All cells, seed by seed, so that a run cut short holds whole comparisons."""
    whole_grid = (
        Cell(method, attack, strength, task, seed)
        for seed in grid.seeds
        for task in grid.tasks
        for strength in grid.strengths
        for attack in grid.attacks
        for method in grid.methods
    )
    return [cell for cell in whole_grid if not is_left_out(cell.coordinates, grid.left_out)]


def grid_from(values: Mapping[str, Any], folder: Path, name: str) -> Grid:
    """As `read_grid`, from plain values. folder: where relative files lie unless `data.folder` says otherwise."""
    given = mapping(values, "", KEYS, NEEDED)
    data = mapping(given["data"], "data", ("folder", "provider", "attacker"), ["provider", "attacker"])
    place = folder / Path(text(data["folder"], "data.folder")).expanduser() if "folder" in data else folder
    if not place.is_dir():
        refuse("data.folder", f"there is no folder {place}; correct the path.")
    max_length = whole(given.get("max_length", MAX_LENGTH), "max_length", 8, 131_072)
    seeds = tuple(whole(seed, f"seeds[{n}]", 0, 2**31 - 1) for n, seed in enumerate(several(given["seeds"], "seeds")))
    different(list(seeds), "seeds")
    sweep = sweep_plan(given.get("sweep"))
    methods = _methods(given["methods"], max_length, sweep)
    grid = Grid(
        title=text(given.get("title", name), "title"),
        base=text(given["base"], "base"),
        provider=_sources(data["provider"], "data.provider", place, PROVIDER),
        attacker=_sources(data["attacker"], "data.attacker", place, POOLS),
        tasks=tuple(task_plans(given["tasks"], "tasks", place)),
        methods=methods,
        reference=_reference(given.get("reference"), methods),
        attacks=_attacks(given),
        strengths=tuple(strengths(given["strengths"], "strengths", given.get("training"), "training", max_length)),
        seeds=seeds,
        evaluation=evaluation_plan(given["evaluation"], "evaluation", place),
        max_length=max_length,
        dtype=text(given.get("dtype", "auto"), "dtype"),
        device=text(given.get("device", "auto"), "device"),
        keep_adapters=flag(given.get("keep_adapters", False), "keep_adapters"),
        sweep=sweep,
        values=dict(values),
    )
    _require_rows(grid)
    return replace(grid, left_out=_left_out(given.get("leave_out"), grid))


def _left_out(values: Any, grid: Grid) -> tuple[Exclusion, ...]:
    """The combinations that are not run; some must be left."""
    everything = [cell.coordinates for cell in cells(grid)]
    known = {axis: list(dict.fromkeys(one[axis] for one in everything)) for axis in everything[0]}
    entries = exclusions(values, "leave_out", known)
    if all(is_left_out(one, entries) for one in everything):
        refuse("leave_out", "leaves no cell; drop an entry.")
    return entries


def _sources(values: Any, path: str, folder: Path, known: Collection[str]) -> dict[str, Source]:
    given = mapping(values, path, known)
    return {name: source(value, f"{path}.{name}", folder) for name, value in given.items()}


def _methods(values: Any, max_length: int, sweep: Sweep | None) -> tuple[MethodPlan, ...]:
    found: list[MethodPlan] = []
    for place, value in enumerate(several(values, "methods")):
        path = f"methods[{place}]"
        found += trials(value, path, max_length, sweep) if sweep else [method_plan(value, path, max_length)]
        if sweep is None and isinstance(value, Mapping) and "tune" in value:
            refuse(f"{path}.tune", "is for sweeps; add a `sweep`, or leave it out.")
    different([method.name for method in found], "methods")
    return tuple(found)


def _reference(value: Any, methods: Sequence[MethodPlan]) -> str:
    names = [method.name for method in methods]
    if value is None:
        return names[0]
    if label(value, "reference") not in names:
        refuse("reference", f"{value!r} is none of the methods; use {', '.join(names)}.")
    return str(value)


def _attacks(given: Mapping[str, Any]) -> tuple[AttackPlan, ...]:
    rows = whole(given.get("rows", 1000), "rows", 1, 10**6)
    ratios = [number(ratio, "ratios", 0.0, 1.0) for ratio in several(given.get("ratios", [0.1]), "ratios")]
    different(ratios, "ratios")
    found: list[AttackPlan] = []
    for place, value in enumerate(several(given["attacks"], "attacks")):
        new = attack_plans(value, f"attacks[{place}]", rows, ratios)
        twin = next((plan for plan in new for old in found if plan.label == old.label != "benign"), None)
        if twin is not None:
            refuse(f"attacks[{place}].label", f"{twin.label!r} comes twice; give each attack its own label.")
        found += new
    return tuple(without_twins(found))


def _require_rows(grid: Grid) -> None:
    """Every method, attack and measurement finds the rows that it needs."""
    for method in grid.methods:
        for name in method.needs:
            if name not in grid.provider and not (name == "safe" and "alignment" in grid.provider):
                refuse(f"data.provider.{name}", f"is needed by the method {method.name}; add it.")
    for plan in grid.attacks:
        if plan.attack.poisoned:
            for name in plan.attack.needs:
                if name not in grid.attacker and name not in MADE_HERE:
                    refuse(f"data.attacker.{name}", f"is needed by the attack {plan.label}; add it.")
    rows = {"alignment": grid.evaluation.drift, "harmful": grid.evaluation.gradient_norms}
    for name, part in (("alignment", "drift"), ("harmful", "gradient_norms")):
        if rows[name] is not None and name not in grid.provider:
            refuse(f"data.provider.{name}", f"is needed by evaluation.{part}; add it.")
