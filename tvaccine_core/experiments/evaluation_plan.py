"""How the models of a grid are measured. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tvaccine_core.evaluation.judge.names import EMBEDDED, require_judge_name
from tvaccine_core.experiments.emergent_plan import EmergentPlan, emergent_plan
from tvaccine_core.experiments.keys import mapping, number, text, under, whole
from tvaccine_core.experiments.landscape_plan import LandscapePlan, basin_plan, plane_plan
from tvaccine_core.experiments.mixed_source import Source, source

KEYS = (
    "harmful_prompts", "harmless_prompts", "writing", "judge", "judge_base", "judge_threshold", "max_new_tokens",
    "task_rows", "batch_size", "basin", "plane", "emergent", "drift", "gradient_norms",
)  # fmt: skip
DRIFT_ROWS, PROBE_ROWS = 64, 8
MOST_ROWS = 10_000


@dataclass(frozen=True)
class EvaluationPlan:
    """harmful_prompts: held-out prompts of the harmful score. harmless_prompts: of the over-refusal. writing: rows of
    the perplexity; either of these two may be missing.

    judge: a judge's name (see `parse_judge`); judge_base: the base that an embedded or trained judge reads, the grid's
    if None. judge_threshold: in place of the judge's own. max_new_tokens: of an answer to a harmful or harmless
    prompt. task_rows: test rows of a task at most. batch_size: prompts answered together at most.

    What a grid has to ask for: basin of every model; plane of the attacked ones; emergent: misalignment of every model;
    drift: the first alignment rows that an attacked model's drift is measured on; gradient_norms: the first of the
    provider's harmful rows that the layers' norms before the attack are measured on.
    """

    harmful_prompts: Source
    harmless_prompts: Source | None = None
    writing: Source | None = None
    judge: str = EMBEDDED
    judge_base: str | None = None
    judge_threshold: float | None = None
    max_new_tokens: int = 128
    task_rows: int = 200
    batch_size: int = 64
    basin: LandscapePlan | None = None
    plane: LandscapePlan | None = None
    emergent: EmergentPlan | None = None
    drift: int | None = None
    gradient_norms: int | None = None

    def settings(self) -> dict[str, Any]:
        """What the figures depend on beside the rows, as plain JSON values.

        Parts that came after the first grids were run are named only where they are asked for: cells without them keep
        their identity.
        """
        later = {
            "plane": self.plane and self.plane.settings(),
            "emergent": self.emergent and self.emergent.settings(),
            "drift": self.drift and {"rows": self.drift},
            "gradient_norms": self.gradient_norms and {"rows": self.gradient_norms},
        }
        return {
            "judge": self.judge,
            "judge_base": self.judge_base,
            "judge_threshold": self.judge_threshold,
            "max_new_tokens": self.max_new_tokens,
            "task_rows": self.task_rows,
            "basin": self.basin and self.basin.settings(),
            **{name: values for name, values in later.items() if values is not None},
        }

    def before_attack(self) -> EvaluationPlan:
        """What is measured of a model that attacks start from."""
        return replace(self, plane=None, drift=None)

    def after_attack(self) -> EvaluationPlan:
        """What is measured of an attacked model."""
        return replace(self, gradient_norms=None)


def evaluation_plan(values: Any, path: str, folder: Path) -> EvaluationPlan:
    """The plan that a grid's values describe. Raises InvalidRequest naming the key."""
    given = mapping(values, path, KEYS, ["harmful_prompts"])
    own: dict[str, Any] = {
        key: source(given[key], f"{path}.{key}", folder)
        for key in ("harmful_prompts", "harmless_prompts", "writing")
        if key in given
    }
    if "judge" in given:
        with under(path):
            own["judge"] = str(require_judge_name(text(given["judge"], f"{path}.judge")))
    if given.get("judge_base") is not None:
        own["judge_base"] = text(given["judge_base"], f"{path}.judge_base")
    if given.get("judge_threshold") is not None:
        own["judge_threshold"] = number(given["judge_threshold"], f"{path}.judge_threshold", 0.0, 1.0)
    for key, most in (("max_new_tokens", 4096), ("task_rows", 10**6), ("batch_size", 4096)):
        if key in given:
            own[key] = whole(given[key], f"{path}.{key}", 1, most)
    return EvaluationPlan(**own, **_asked_for(given, path, folder))


def _asked_for(given: Mapping[str, Any], path: str, folder: Path) -> dict[str, Any]:
    """The parts that are measured only where the grid names them."""
    readers: dict[str, Callable[[Any, str], Any]] = {
        "basin": basin_plan,
        "plane": plane_plan,
        "emergent": lambda value, where: emergent_plan(value, where, folder),
        "drift": lambda value, where: _rows(value, where, DRIFT_ROWS),
        "gradient_norms": lambda value, where: _rows(value, where, PROBE_ROWS),
    }
    return {name: read(given[name], f"{path}.{name}") for name, read in readers.items() if given.get(name) is not None}


def _rows(value: Any, path: str, usual: int) -> int | None:
    """The number of rows of `true` or `{rows: N}`; None for `false`."""
    if isinstance(value, bool):
        return usual if value else None
    given = mapping(value, path, ("rows",), ["rows"])
    return whole(given["rows"], f"{path}.rows", 1, MOST_ROWS)
