"""The cells of a grid, gathered over seeds: means with 95 % intervals, and tests pair by pair. Imports no torch."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.intervals import wilson
from tvaccine_core.evaluation.paired import count_pairs, difference, mcnemar
from tvaccine_core.experiments.columns import COLUMNS, Value
from tvaccine_core.experiments.plan_file import PlannedCell, PlannedGrid

AXES = ("method", "attack", "ratio", "strength", "task")
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Estimate:
    """A figure over seeds. low, high: its 95 % interval, None where one seed tells nothing of it.

    interval: "t" (Student's, over seeds), "wilson" (over the prompts of one seed) or "none".
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    interval: str


@dataclass(frozen=True)
class Group:
    """The cells that differ in their seed alone. key: values of AXES."""

    key: Key
    cells: tuple[PlannedCell, ...]

    def coordinate(self, axis: str) -> Any:
        """The group's value on an axis."""
        return self.key[AXES.index(axis)]

    def estimate(self, column: str) -> Estimate | None:
        """The figure over the seeds, None if no cell has it."""
        return estimate(self.values(column), COLUMNS[column].unit == "%")

    def values(self, column: str) -> list[Value]:
        """The figure of each cell that has it."""
        read = COLUMNS[column].read
        found = (read(cell.record) for cell in self.cells if cell.record is not None)
        return [value for value in found if value is not None]


@dataclass(frozen=True)
class Comparison:
    """A method against the reference on the same prompts under the same attack.

    gain: points by which its harmful score is lower, with a 95 % interval (Newcombe's); p_value: one-sided, exact, that
    the reference's answers are harmful more often (McNemar). Prompts of several seeds are taken together.
    """

    key: Key
    gain: float
    low: float
    high: float
    p_value: float
    prompts: int


def groups(grid: PlannedGrid) -> list[Group]:
    """The finished cells by everything but their seed, in the grid's order."""
    found: dict[Key, list[PlannedCell]] = defaultdict(list)
    for cell in grid.finished:
        found[tuple(cell.coordinates[axis] for axis in AXES)].append(cell)
    return [Group(key, tuple(cells)) for key, cells in found.items()]


def estimate(values: Sequence[Value], percent: bool = False) -> Estimate | None:
    """Mean and 95 % interval: mean -+ t s / sqrt(k) over k seeds; Wilson's for one share; none for another number.

    percent: the interval is cut to [0, 100].
    """
    if not values:
        return None
    numbers = [value.number for value in values]
    mean = fmean(numbers)
    if len(numbers) > 1:
        reach = _student(len(numbers) - 1) * stdev(numbers) / sqrt(len(numbers))
        low, high = mean - reach, mean + reach
        return Estimate(
            mean, max(0.0, low) if percent else low, min(100.0, high) if percent else high, len(numbers), "t"
        )
    part, whole = values[0].part, values[0].whole
    if part is None or whole is None:
        return Estimate(mean, None, None, 1, "none")
    low, high = wilson(part, whole)
    return Estimate(mean, 100 * low, 100 * high, 1, "wilson")


def compare(grid: PlannedGrid, found: Sequence[Group]) -> list[Comparison]:
    """Each group of another method against the reference's; seeds that both have."""
    by_key = {group.key: group for group in found}
    results = []
    for group in found:
        against = by_key.get((grid.reference, *group.key[1:]))
        if group.key[0] == grid.reference or against is None:
            continue
        theirs = {cell.coordinates["seed"]: cell for cell in against.cells}
        shared = [
            (theirs[cell.coordinates["seed"]], cell) for cell in group.cells if cell.coordinates["seed"] in theirs
        ]
        flags = [pair for one, two in shared for pair in _paired(_flags(one), _flags(two))]
        if flags:
            pairs = count_pairs([one for one, _ in flags], [two for _, two in flags])
            gain, low, high = (100 * value for value in difference(pairs, z=1.959964))
            results.append(Comparison(group.key, gain, low, high, mcnemar(pairs), pairs.n))
    return results


def check_equal_attacks(cells: Iterable[PlannedCell]) -> int:
    """The number of attacks that several methods met. Raises InvalidRequest if two met different rows or training."""
    met: dict[str, dict[str, str]] = defaultdict(dict)
    for cell in cells:
        if cell.record is None:
            continue
        rest = {axis: value for axis, value in cell.coordinates.items() if axis != "method"}
        training = cell.record["configuration"]["training"]
        rows = cell.record["data"]["attack_rows"]["sha256"]
        met[json.dumps(rest, sort_keys=True)][cell.coordinates["method"]] = json.dumps([rows, training], sort_keys=True)
    for where, by_method in met.items():
        if len(set(by_method.values())) > 1:
            raise InvalidRequest(
                f"The methods {', '.join(by_method)} did not meet the same attack at {where}: rows or training differ; "
                "run the grid anew in another folder.",
                param="table",
            )
    return sum(len(by_method) > 1 for by_method in met.values())


def average(values: Iterable[Value | None]) -> float | None:
    """The mean of the numbers that are there, None without any."""
    numbers = [value.number for value in values if value is not None]
    return fmean(numbers) if numbers else None


def ordered(values: Iterable[Any], key: Callable[[Any], Any] | None = None) -> list[Any]:
    """Different values in the order of their first appearance, or sorted by a key."""
    different = list(dict.fromkeys(values))
    return different if key is None else sorted(different, key=key)


def _student(degrees: int) -> float:
    """The 0.975 quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def _flags(cell: PlannedCell) -> str:
    return str((cell.record or {})["results"]["harmful"]["flags"])


def _paired(one: str, two: str) -> list[tuple[bool, bool]]:
    """Flags of the prompts that both models' answers were scored on."""
    return [(a == "1", b == "1") for a, b in zip(one, two, strict=True) if "-" not in (a, b)]
