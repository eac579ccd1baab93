"""Measuring a model at points of a line or a plane through its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import hypot
from pathlib import Path
from typing import Any

from tvaccine_core.metrics.landscape.directions import Direction
from tvaccine_core.metrics.landscape.points import Place, Point, PointFile, Values
from tvaccine_core.metrics.landscape.weights import PerturbableWeights
from tvaccine_core.training.stop import Stopped, never

Measure = Callable[[], Values]
"""Measures the model as it stands, for example the percentage of answers without a refusal. Higher is worse."""


@dataclass(frozen=True)
class Axis:
    """A direction and the places along it."""

    direction: Direction
    values: tuple[float, ...]


def sweep(
    weights: PerturbableWeights,
    axes: Sequence[Axis],
    measure: Measure,
    file: Path,
    *,
    identity: Mapping[str, Any],
    should_stop: Callable[[], bool] = never,
) -> list[Point]:
    """Measure the model at every point of the grid that the axes span (one: a line, two: a plane), in grid order.

    The model is moved, measured and put back, bit for bit, point by point; the points nearest to the model itself
    come first. Points that are in `file` already are not measured again.
    identity: whatever the values depend on beside weights and axes: prompts, system prompt, answer length, judge.
    Raises Stopped between two points when asked to stop, InvalidRequest when `file` holds another sweep's points.
    """
    known = PointFile(file, {**identity, "weights": weights.fingerprint(), "axes": [_named(axis) for axis in axes]})
    places: list[Place] = list(product(*(axis.values for axis in axes)))
    for place in sorted(places, key=lambda one: hypot(*one)):
        if known.get(place) is not None:
            continue
        if should_stop():
            raise Stopped(sum(known.get(one) is not None for one in places), None)
        with weights.moved([(axis.direction, alpha) for axis, alpha in zip(axes, place, strict=True)]):
            values = measure()
        known.add(place, values)
    return [point for place in places if (point := known.get(place)) is not None]


def _named(axis: Axis) -> dict[str, Any]:
    return {"direction": axis.direction.identity, "values": list(axis.values)}
