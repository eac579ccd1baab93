"""What a training step costs in time, from the time stamps of a run's metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from tvaccine_core.errors import InvalidRequest

WARM_UP = 10
"""First steps that are left out: they fill caches and compile kernels."""

ENOUGH = 200
"""A median over fewer steps is not for a table."""


@dataclass(frozen=True)
class StepCost:
    """seconds: median of one optimizer step. steps: how many it is the median of."""

    seconds: float
    steps: int

    @property
    def enough(self) -> bool:
        """Are these enough steps to report?"""
        return self.steps >= ENOUGH

    def relative_to(self, baseline: StepCost) -> float:
        """Times the baseline's step: SFT on the same machine and kernels."""
        return self.seconds / baseline.seconds


def step_cost(lines: Sequence[Mapping[str, Any]], warm_up: int = WARM_UP) -> StepCost:
    """The cost of a step, from lines of `read_metrics`, each of which ends a step.

    The time between two lines counts where they end consecutive steps. Probes, checkpoints and the gap of a resumed
    run fall on few steps, which a median leaves aside. Raises InvalidRequest without two steps after the warm-up.
    """
    ends = {int(line["step"]): float(line["t"]) for line in lines if "loss" in line and line["step"] > warm_up}
    taken = [ends[after] - ends[before] for before, after in pairwise(sorted(ends)) if after == before + 1]
    if not taken:
        raise InvalidRequest(f"The run has too few steps after its first {warm_up}; train longer.", param="metrics")
    return StepCost(median(taken), len(taken))
