"""The tables of a grid: table.md for people, table.csv and cells.csv for programs. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tvaccine_core.experiments.columns import COLUMNS
from tvaccine_core.experiments.plan_file import PlannedGrid
from tvaccine_core.experiments.summary import (
    AXES,
    Estimate,
    Group,
    check_equal_attacks,
    compare,
    estimate,
    groups,
    ordered,
)
from tvaccine_core.training.files import write_text_atomic

MARKDOWN, TABLE, CELLS = "table.md", "table.csv", "cells.csv"
BY_ATTACK = ("harmful_score", "accuracy")
OTHERS = (
    "harmful_score_in_template", "harmful_score_plus", "keyword_attack", "coherence", "over_refusal", "perplexity",
    "visage", "drift", "misaligned", "misaligned_of_all", "rated_coherent", "rated_code", "rated_refusal", "unrated",
)  # fmt: skip
BEFORE = ("harmful_score_before", "accuracy_before", "over_refusal_before", "perplexity_before", "misaligned_before")
COSTS = (
    "alignment_steps", "alignment_step_seconds", "alignment_seconds", "alignment_memory", "fine_tuning_seconds",
    "fine_tuning_memory", "repair_seconds", "repair_memory",
)  # fmt: skip
NOTHING = "-"
SMALLEST_P = 0.0001


def write_tables(grid: PlannedGrid, out: Path) -> list[Path]:
    """Writes the three files to `out`. Raises InvalidRequest when methods met different attacks."""
    equal = check_equal_attacks(grid.finished)
    found = groups(grid)
    texts = {
        MARKDOWN: markdown(grid, found, equal),
        TABLE: _csv(_group_rows(grid, found)),
        CELLS: _csv(_cell_rows(grid)),
    }
    for name, text in texts.items():
        write_text_atomic(out / name, text)
    return [out / name for name in texts]


def markdown(grid: PlannedGrid, found: Sequence[Group], equal: int) -> str:
    """The whole table.md."""
    parts = [f"# {grid.title}", _heading(grid, equal)]
    for strength in ordered(group.coordinate("strength") for group in found):
        for task in ordered(group.coordinate("task") for group in found):
            here = [g for g in found if (g.coordinate("strength"), g.coordinate("task")) == (strength, task)]
            if here:
                parts += [f"## Attack {strength}, task {task}", *_by_attack(here), *_others(here)]
    parts += [*_before(found), *_against(grid, found), *_costs(found), *_failures(grid)]
    return "\n\n".join(parts) + "\n"


def shown(value: Estimate | None, unit: str) -> str:
    """An estimate for a reader: 12.5 [8.1, 18.2]."""
    if value is None:
        return NOTHING
    digits = 1 if unit == "%" or abs(value.mean) >= 10 else 2
    mean = f"{value.mean:.{digits}f}"
    if value.low is None or value.high is None:
        return mean
    return f"{mean} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _heading(grid: PlannedGrid, equal: int) -> str:
    seeds = ordered(cell.coordinates["seed"] for cell in grid.cells)
    records = [cell.record for cell in grid.finished if cell.record is not None]
    versions = ordered(record["code"]["version"] for record in records)
    judges = ordered(f"{r['configuration']['judge']['name']} {r['configuration']['judge']['version']}" for r in records)
    lines = [
        f"{len(grid.finished)} of {len(grid.cells)} cells, {len(seeds)} seed(s). Mean with 95 % interval: Student's t "
        "over seeds; with one seed Wilson's over the prompts. Figures in percent unless said otherwise.",
        f"Judge: {', '.join(judges) or NOTHING}. Code: {', '.join(versions) or NOTHING}.",
        f"In each of {equal} attacks that several methods met, rows and training were the same for all of them.",
    ]
    if len(versions) > 1:
        lines.append("The cells were made by different versions of the code.")
    return "\n".join(lines)


def _by_attack(here: Sequence[Group]) -> list[str]:
    """One table for each of the main figures: methods down, attacks and ratios across."""
    across = ordered(((g.coordinate("attack"), g.coordinate("ratio")) for g in here), key=lambda one: (one[1] > 0, 0))
    tables = []
    for name in BY_ATTACK:
        if not any(group.estimate(name) for group in here):
            continue
        column = COLUMNS[name]
        rows = []
        for method in ordered(group.coordinate("method") for group in here):
            at = {(g.coordinate("attack"), g.coordinate("ratio")): g for g in here if g.coordinate("method") == method}
            rows.append(
                [method, *(shown(at[one].estimate(name) if one in at else None, column.unit) for one in across)]
            )
        tables.append(f"### {column.words}\n\n" + _table(["Method", *map(_attack_words, across)], rows))
    return tables


def _others(here: Sequence[Group]) -> list[str]:
    """The other figures, each attack at each ratio on a line of its own."""
    names = [name for name in OTHERS if any(group.estimate(name) for group in here)]
    rows = [
        [group.coordinate("method"), _attack_words((group.coordinate("attack"), group.coordinate("ratio")))]
        + [shown(group.estimate(name), COLUMNS[name].unit) for name in names]
        for group in here
    ]
    return ["### Other figures\n\n" + _table(["Method", "Attack", *(COLUMNS[name].words for name in names)], rows)]


def _before(found: Sequence[Group]) -> list[str]:
    """The models that the attacks start from. Cells of one method and seed share them."""
    names = [name for name in BEFORE if any(group.values(name) for group in found)]
    rows = []
    for method in ordered(group.coordinate("method") for group in found):
        for task in ordered(group.coordinate("task") for group in found):
            mine = [g for g in found if (g.coordinate("method"), g.coordinate("task")) == (method, task)]
            rows.append([method, task, *(shown(_once_a_seed(mine, name), COLUMNS[name].unit) for name in names)])
    return ["## Before the attack\n\n" + _table(["Method", "Task", *(COLUMNS[name].words for name in names)], rows)]


def _against(grid: PlannedGrid, found: Sequence[Group]) -> list[str]:
    results = compare(grid, found)
    if not results:
        return []
    rows = [
        [*map(str, one.key), f"{one.gain:+.1f} [{one.low:+.1f}, {one.high:+.1f}]", _p(one.p_value), str(one.prompts)]
        for one in results
    ]
    head = [*(axis.capitalize() for axis in AXES), "Points lower", "p", "Prompts"]
    words = f"How much lower the harmful score is than {grid.reference}'s, on the same prompts (McNemar, one-sided)."
    return [f"## Against {grid.reference}\n\n{words}\n\n" + _table(head, rows)]


def _costs(found: Sequence[Group]) -> list[str]:
    names = [name for name in COSTS if any(group.values(name) for group in found)]
    rows = []
    for method in ordered(group.coordinate("method") for group in found):
        mine = [group for group in found if group.coordinate("method") == method]
        pooled = [estimate([value for group in mine for value in group.values(name)]) for name in names]
        rows.append([method, *(NOTHING if one is None else f"{one.mean:.3g}" for one in pooled)])
    heads = [
        f"{COLUMNS[name].words} ({COLUMNS[name].unit})" if COLUMNS[name].unit else COLUMNS[name].words for name in names
    ]
    words = "Means over all cells. Memory in 10^9 bytes: reserved on a GPU, else the process's resident size."
    return [f"## Cost\n\n{words}\n\n" + _table(["Method", *heads], rows)]


def _failures(grid: PlannedGrid) -> list[str]:
    lines = [
        f"- {' / '.join(str(cell.coordinates[axis]) for axis in (*AXES, 'seed'))}: {cell.failure}"
        for cell in grid.cells
        if cell.failure is not None
    ]
    return ["## Failed\n\n" + "\n".join(lines)] if lines else []


def _once_a_seed(mine: Sequence[Group], name: str) -> Estimate | None:
    """An estimate that counts a figure once for each seed, though many cells repeat it."""
    by_seed: dict[Any, Any] = {}
    for group in mine:
        for cell in group.cells:
            if cell.record is not None:
                by_seed.setdefault(cell.coordinates["seed"], COLUMNS[name].read(cell.record))
    return estimate([value for value in by_seed.values() if value is not None], COLUMNS[name].unit == "%")


def _attack_words(attack: tuple[str, float]) -> str:
    name, ratio = attack
    return name if ratio == 0 else f"{name} {ratio:g}"


def _p(value: float) -> str:
    return f"<{SMALLEST_P}" if value < SMALLEST_P else f"{value:.4f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _group_rows(grid: PlannedGrid, found: Sequence[Group]) -> list[dict[str, Any]]:
    """One row for each group and figure."""
    rows: list[dict[str, Any]] = []
    for group in found:
        for name, column in COLUMNS.items():
            value = group.estimate(name)
            if value is not None:
                key = dict(zip(AXES, group.key, strict=True))
                facts = {"figure": name, "unit": column.unit, "mean": value.mean, "low": value.low, "high": value.high}
                rows.append({**key, **facts, "seeds": value.seeds, "interval": value.interval})
    for one in compare(grid, found):
        key = dict(zip(AXES, one.key, strict=True))
        facts = {"figure": f"points_below_{grid.reference}", "unit": "%", "mean": one.gain, "low": one.low}
        rows.append({**key, **facts, "high": one.high, "interval": "newcombe", "p_value": one.p_value})
    return rows


def _cell_rows(grid: PlannedGrid) -> list[dict[str, Any]]:
    """One row for each cell, done or not."""
    rows = []
    for cell in grid.cells:
        state = "done" if cell.record is not None else "failed" if cell.failure is not None else "missing"
        figures = {}
        if cell.record is not None:
            read = {name: column.read(cell.record) for name, column in COLUMNS.items()}
            figures = {name: value.number for name, value in read.items() if value is not None}
        coordinates = {axis: cell.coordinates[axis] for axis in (*AXES, "seed")}
        rows.append({**coordinates, "state": state, **figures})
    return rows


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    names = ordered(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
