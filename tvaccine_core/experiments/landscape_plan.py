"""The safety landscapes that a grid's evaluation asks for. Imports no torch.

    basin: {radius: 0.5, steps: 20, seeds: [1, 2, 3]}    # lines: (steps + 1) points for each seed
    plane: {radius: 0.5, steps: 10, seeds: [1, 2]}       # a plane: (steps + 1)^2 points

Every point answers `prompts` harmful prompts anew, so that a plane costs by far the most of a cell's measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvaccine_core.experiments.keys import mapping, number, refuse, several, under, whole
from tvaccine_core.metrics.landscape.config import MOST_STEPS, LandscapeConfig

KEYS = ("radius", "steps", "seeds", "weights", "score", "below", "prompts", "max_new_tokens")
SCORES = {"asr": "Attack success rate (%)", "harmful_score": "Harmful score (%)"}
"""What S may be, and its name in pictures."""
PLANE: Mapping[str, Any] = {"steps": 10, "seeds": (1, 2)}
"""What a plane takes instead of a basin's defaults: 121 points instead of 441."""


@dataclass(frozen=True)
class LandscapePlan:
    """Where the landscape of a model is sampled, on the first `prompts` harmful prompts."""

    config: LandscapeConfig
    prompts: int
    max_new_tokens: int

    def settings(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**self.config.to_dict(), "prompts": self.prompts, "max_new_tokens": self.max_new_tokens}


def basin_plan(values: Any, path: str) -> LandscapePlan:
    """The lines that a grid's value describes. Raises InvalidRequest naming the key."""
    given = mapping(values, path, KEYS)
    prompts = whole(given.pop("prompts", 80), f"{path}.prompts", 1, 10**6)
    tokens = whole(given.pop("max_new_tokens", 64), f"{path}.max_new_tokens", 1, 4096)
    return LandscapePlan(_config(given, path), prompts, tokens)


def plane_plan(values: Any, path: str) -> LandscapePlan:
    """The plane that a grid's value describes: two seeds, one for each axis. Raises as `basin_plan`."""
    plan = basin_plan({**PLANE, **mapping(values, path, KEYS)}, path)
    if len(plan.config.seeds) != 2:
        refuse(f"{path}.seeds", "a plane lies between two directions; give two seeds, such as [1, 2].")
    return plan


def _config(given: dict[str, Any], path: str) -> LandscapeConfig:
    """Numbers are checked and not changed: the identity of a cell tells 1 from 1.0."""
    for key, low, high in (("radius", 1e-6, 10.0), ("below", 0.0, 100.0)):
        if key in given:
            number(given[key], f"{path}.{key}", low, high)
    if "steps" in given:
        whole(given["steps"], f"{path}.steps", 2, MOST_STEPS)
    if "seeds" in given:
        seeds = several(given["seeds"], f"{path}.seeds")
        given["seeds"] = tuple(whole(seed, f"{path}.seeds", 0, 2**31 - 1) for seed in seeds)
    if given.get("score", "asr") not in SCORES:
        refuse(f"{path}.score", f"{given['score']!r} is no score of a landscape; use {' or '.join(SCORES)}.")
    with under(path):
        return LandscapeConfig(**given)
