"""The safety basin of one model: lines along random directions with their VISAGE, a plane, and the way to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.metrics.landscape.config import LandscapeConfig
from tvaccine_core.metrics.landscape.directions import Direction, RandomDirection
from tvaccine_core.metrics.landscape.points import Point
from tvaccine_core.metrics.landscape.sweep import Axis, Measure, sweep
from tvaccine_core.metrics.landscape.visage import LinePoint, basin_width, mean_visage, visage
from tvaccine_core.metrics.landscape.weights import PerturbableWeights
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.stop import never

BASIN_FILE = "basin.json"
PLANE_FILE = "plane.json"
WAY_FILE = "way.json"


def measure_basin(
    model: nn.Module,
    measure: Measure,
    out: Path,
    config: LandscapeConfig,
    *,
    identity: Mapping[str, Any],
    should_stop: Callable[[], bool] = never,
) -> dict[str, Any]:
    """The 1-D landscape along one random direction for each seed, VISAGE and the basin's width.

    identity: what the measured values depend on beside the model (`HarmfulAnswers.identity`). Leaves in `out`:
    line-SEED.jsonl, one line a point, from which a run that was cut off goes on; and, last, basin.json, which is
    also returned. Raises Stopped, InvalidRequest (see `sweep`).
    """
    weights = PerturbableWeights(model, config.weights)
    lines, scores = [], []
    for seed in config.seeds:
        axis = Axis(RandomDirection(seed), config.alphas)
        file = out / f"line-{seed}.jsonl"
        points = sweep(weights, [axis], measure, file, identity=identity, should_stop=should_stop)
        found = line_scores(points, config.score)
        scores.append(found)
        lines.append(
            {
                "seed": seed,
                "visage": visage(found),
                "width": basin_width(found, config.below),
                "points": [{"alpha": point.place[0], **point.values} for point in points],
            }
        )
    report = {
        "config": config.to_dict(),
        "identity": dict(identity),
        "visage": mean_visage(scores),
        "lines": lines,
    }
    write_json_atomic(out / BASIN_FILE, report)
    return report


def measure_plane(
    model: nn.Module,
    measure: Measure,
    out: Path,
    config: LandscapeConfig,
    *,
    identity: Mapping[str, Any],
    toward: Direction | None = None,
    should_stop: Callable[[], bool] = never,
) -> dict[str, Any]:
    """The 2-D landscape over (steps + 1)^2 points; scores[j][i] is S at (alphas[i], alphas[j]).

    The axes are the first two seeds' directions, or the first one's and `toward` (say, a fine-tuned model). Leaves in
    `out`: plane.jsonl and, last, plane.json, which is also returned. Raises as `measure_basin`, and InvalidRequest
    when a second direction is missing.
    """
    if toward is None and len(config.seeds) < 2:
        raise InvalidRequest("A plane needs two directions; give two seeds or another model.", param="seeds")
    first = RandomDirection(config.seeds[0])
    second = RandomDirection(config.seeds[1]) if toward is None else toward
    axes = [Axis(first, config.alphas), Axis(second, config.alphas)]
    weights = PerturbableWeights(model, config.weights)
    points = sweep(weights, axes, measure, out / "plane.jsonl", identity=identity, should_stop=should_stop)
    found = {point.place: score_of(point, config.score) for point in points}
    report = {
        "config": config.to_dict(),
        "identity": dict(identity),
        "directions": [first.identity, second.identity],
        "alphas": list(config.alphas),
        "scores": [[found[x, y] for x in config.alphas] for y in config.alphas],
    }
    write_json_atomic(out / PLANE_FILE, report)
    return report


def measure_way(
    model: nn.Module,
    way: Direction,
    places: tuple[float, ...],
    measure: Measure,
    out: Path,
    *,
    kind: str = "merged",
    identity: Mapping[str, Any],
    should_stop: Callable[[], bool] = never,
) -> dict[str, Any]:
    """The line theta_0 + t (theta_1 - theta_0) from the model to another one, at the t in `places`.

    way: `TowardWeights` of the other model; t = 0 is the model, t = 1 the other. kind: "merged" or "adapter". Leaves
    in `out`: way.jsonl and, last, way.json, which is also returned. Raises as `measure_basin`.
    """
    weights = PerturbableWeights(model, kind)
    points = sweep(weights, [Axis(way, places)], measure, out / "way.jsonl", identity=identity, should_stop=should_stop)
    report = {
        "identity": dict(identity),
        "direction": way.identity,
        "points": [{"t": point.place[0], **point.values} for point in points],
    }
    write_json_atomic(out / WAY_FILE, report)
    return report


def score_of(point: Point, name: str) -> float:
    """The value that is S. Raises InvalidRequest when it was not measured."""
    if name not in point.values:
        raise InvalidRequest(
            f"{name!r} was not measured; score must be one of {', '.join(sorted(point.values))}.", param="score"
        )
    return point.values[name]


def line_scores(points: list[Point], name: str) -> list[LinePoint]:
    """(alpha, S) of each point of a line. Raises as `score_of`."""
    return [(point.place[0], score_of(point, name)) for point in points]
