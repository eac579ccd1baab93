"""The settings of a safety landscape. Torch-free."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from tvaccine_core.errors import InvalidRequest

KINDS = ("merged", "adapter")
MOST_STEPS = 1000


@dataclass(frozen=True)
class LandscapeConfig:
    """Where the landscape is sampled; the defaults are those of arXiv 2405.17374, but three directions.

    radius: alpha goes from -radius to radius, 1e-6 to 10; at alpha 1 a random step is as long as the tensor.
    steps: equal steps along each direction, 2 to 1000, an even number, so that the model itself is a point.
    seeds: one random direction each, at least one, all different. The first two span the plane of a 2-D landscape.
    weights: "merged" moves base weights and measures them with their adapters added, "adapter" the LoRA factors alone.
    score: which of the measured values is S, in percent. below: S under which a point counts as safe, 0 to 100.
    """

    radius: float = 0.5
    steps: int = 20
    seeds: tuple[int, ...] = (1, 2, 3)
    weights: str = "merged"
    score: str = "asr"
    below: float = 50.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not (math.isfinite(self.radius) and 1e-6 <= self.radius <= 10):
            raise InvalidRequest(f"radius must be a number from 1e-6 to 10, not {self.radius!r}.", param="radius")
        if self.steps % 2 or not 2 <= self.steps <= MOST_STEPS:
            raise InvalidRequest(
                f"steps must be an even number from 2 to {MOST_STEPS}, not {self.steps!r}.", param="steps"
            )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InvalidRequest("seeds must be one or more different whole numbers.", param="seeds")
        if self.weights not in KINDS:
            raise InvalidRequest(f"weights must be one of {', '.join(KINDS)}, not {self.weights!r}.", param="weights")
        if not 0 <= self.below <= 100:
            raise InvalidRequest("below must be a percentage from 0 to 100.", param="below")

    @property
    def alphas(self) -> tuple[float, ...]:
        """steps + 1 values; exactly 0 in the middle, and exact opposites around it."""
        half = self.steps // 2
        return tuple(self.radius * (place - half) / half for place in range(self.steps + 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "seeds": list(self.seeds)}
