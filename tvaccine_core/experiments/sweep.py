"""Tuning with equal budgets: every method gets the same number of trials. Imports no torch.

    sweep: {trials: 8, seed: 0, accuracy_slack: 2, over_refusal_limit: 30}
    methods:
      - name: t_vaccine
        alignment: {method: t_vaccine, steps: 80}
        tune: {alignment.rho: [0.1, 0.3, 1, 3], alignment.learning_rate: [5e-4, 1e-3]}

A trial is one combination of the values under `tune`, drawn without repetition. The best trial of a method has the
lowest harmful score, averaged over its cells, among those whose accuracy lies within `accuracy_slack` points of the
method's best and which refuse at most `over_refusal_limit` per cent of the harmless prompts.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from tvaccine_core.experiments.keys import mapping, number, refuse, several, whole
from tvaccine_core.experiments.method_plan import STAGES, MethodPlan, method_plan


@dataclass(frozen=True)
class Sweep:
    """trials: of each method. seed: which combinations are drawn. accuracy_slack, over_refusal_limit: percent."""

    trials: int
    seed: int = 0
    accuracy_slack: float = 2.0
    over_refusal_limit: float = 30.0


def sweep_plan(values: Any) -> Sweep | None:
    """The sweep of a grid, None without one. Raises InvalidRequest."""
    if values is None:
        return None
    given = mapping(values, "sweep", ("trials", "seed", "accuracy_slack", "over_refusal_limit"), ["trials"])
    return Sweep(
        trials=whole(given["trials"], "sweep.trials", 1, 10_000),
        seed=whole(given.get("seed", 0), "sweep.seed", 0, 2**31 - 1),
        accuracy_slack=number(given.get("accuracy_slack", 2.0), "sweep.accuracy_slack", 0, 100),
        over_refusal_limit=number(given.get("over_refusal_limit", 30.0), "sweep.over_refusal_limit", 0, 100),
    )


def trials(values: Any, path: str, max_length: int, sweep: Sweep) -> list[MethodPlan]:
    """The trials of one method. Raises InvalidRequest when there are fewer combinations than trials."""
    given = mapping(values, path, None, ["name"])
    family = method_plan({key: value for key, value in given.items() if key != "tune"}, path, max_length).name
    choices = mapping(given.get("tune", {}), f"{path}.tune")
    for key in choices:
        if key.partition(".")[0] not in STAGES or "." not in key:
            refuse(f"{path}.tune.{key}", f"must name a setting of a stage, such as {STAGES[0]}.rho.")
    options = [several(choice, f"{path}.tune.{key}") for key, choice in choices.items()]
    combinations = [dict(zip(choices, picked, strict=True)) for picked in product(*options)]
    if len(combinations) < sweep.trials:
        refuse(
            f"{path}.tune",
            f"has {len(combinations)} combinations and every method gets {sweep.trials} trials; add values, or lower "
            "sweep.trials.",
        )
    random.Random(f"{sweep.seed}:{family}").shuffle(combinations)
    return [
        _trial(given, path, max_length, family, n, picked) for n, picked in enumerate(combinations[: sweep.trials], 1)
    ]


def _trial(
    given: Mapping[str, Any], path: str, max_length: int, family: str, place: int, picked: Mapping[str, Any]
) -> MethodPlan:
    values = deepcopy({key: value for key, value in given.items() if key != "tune"})
    for key, value in picked.items():
        *outer, last = key.split(".")
        inner = values
        for name in outer:
            if isinstance(inner.get(name), str):
                inner[name] = {"method" if name == STAGES[0] else "name": inner[name]}
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                refuse(f"{path}.tune.{key}", f"{name} is a list here; sweep it on its own.")
        inner[last] = value
    plan = method_plan({**values, "name": f"{family} #{place}"}, path, max_length, family)
    return replace(plan, tuned=dict(picked))
