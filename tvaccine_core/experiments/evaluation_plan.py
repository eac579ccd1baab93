"""How the models of a grid are measured. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.evaluation.judge.names import EMBEDDED, require_judge_name
from tvaccine_core.experiments.keys import mapping, number, text, under, whole
from tvaccine_core.experiments.mixed_source import Source, source
from tvaccine_core.metrics.landscape.config import LandscapeConfig

KEYS = (
    "harmful_prompts", "harmless_prompts", "writing", "judge", "judge_base", "judge_threshold", "max_new_tokens",
    "task_rows", "batch_size", "basin",
)  # fmt: skip
BASIN_KEYS = ("radius", "steps", "seeds", "weights", "score", "below", "prompts", "max_new_tokens")


@dataclass(frozen=True)
class BasinPlan:
    """A safety basin of every attacked model, on the first `prompts` harmful prompts."""

    config: LandscapeConfig
    prompts: int
    max_new_tokens: int


@dataclass(frozen=True)
class EvaluationPlan:
    """harmful_prompts: held-out prompts of the harmful score. harmless_prompts: of the over-refusal. writing: rows of
    the perplexity; either of these two may be missing.

    judge: a judge's name (see `parse_judge`); judge_base: the base that an embedded or trained judge reads, the grid's
    if None. judge_threshold: in place of the judge's own. max_new_tokens: of an answer to a harmful or harmless
    prompt. task_rows: test rows of a task at most. batch_size: prompts answered together at most.
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
    basin: BasinPlan | None = None

    def settings(self) -> dict[str, Any]:
        """What the figures depend on beside the rows, as plain JSON values."""
        basin = self.basin
        return {
            "judge": self.judge,
            "judge_base": self.judge_base,
            "judge_threshold": self.judge_threshold,
            "max_new_tokens": self.max_new_tokens,
            "task_rows": self.task_rows,
            "basin": None
            if basin is None
            else {**basin.config.to_dict(), "prompts": basin.prompts, "max_new_tokens": basin.max_new_tokens},
        }


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
    if given.get("basin") is not None:
        own["basin"] = _basin(given["basin"], f"{path}.basin")
    return EvaluationPlan(**own)


def _basin(values: Any, path: str) -> BasinPlan:
    given = mapping(values, path, BASIN_KEYS)
    prompts = whole(given.pop("prompts", 80), f"{path}.prompts", 1, 10**6)
    tokens = whole(given.pop("max_new_tokens", 64), f"{path}.max_new_tokens", 1, 4096)
    with under(path):
        return BasinPlan(LandscapeConfig(**given), prompts, tokens)
