"""Drawing the layers to perturb, and the state of the draw that a checkpoint keeps. Torch-free."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.errors import InvalidRequest


def probabilities(norms: Sequence[float]) -> list[float]:
    """p_i = G_i / sum_j G_j for the layers' gradient norms G; they must be finite and not all zero."""
    total = sum(norms)
    if not 0.0 < total < float("inf"):
        raise ValueError(f"the gradient norms of the probe cannot be sampled from: their sum is {total}")
    return [norm / total for norm in norms]


def draw_layers(p: Sequence[float], gamma: int, select: str, rng: random.Random) -> tuple[int, ...]:
    """gamma distinct layer indices, ascending.

    "weighted": one after the other, with probability proportional to p among those left; "topk": the largest p;
    "uniform": every layer alike, p only gives their number. Raises InvalidRequest if fewer than gamma layers can
    be drawn (p above zero, where p matters).
    """
    left = list(range(len(p))) if select == "uniform" else [i for i, value in enumerate(p) if value > 0.0]
    if len(left) < gamma:
        raise InvalidRequest(
            f"gamma is {gamma}, but only {len(left)} of the model's {len(p)} layers can be drawn. "
            f"Set gamma to {len(left)} or less.",
            param="gamma",
        )
    if select == "uniform":
        return tuple(sorted(rng.sample(left, gamma)))
    if select == "topk":
        return tuple(sorted(sorted(left, key=lambda i: -p[i])[:gamma]))
    return tuple(sorted(_weighted_without_replacement(p, left, gamma, rng)))


def _weighted_without_replacement(p: Sequence[float], left: list[int], gamma: int, rng: random.Random) -> list[int]:
    drawn: list[int] = []
    for _ in range(gamma):
        # Should rounding let the mark pass the sum, the last one is taken.
        mark = rng.random() * sum(p[i] for i in left)
        for chosen in left:
            mark -= p[chosen]
            if mark < 0.0:
                break
        left.remove(chosen)
        drawn.append(chosen)
    return drawn


@dataclass
class LayerSchedule:
    """Which layers are drawn at an optimizer step, and when to probe and draw anew.

    The draws have a generator of their own, so that they do not depend on data order or dropout. `state` and
    `restore` carry p, the drawn set and the generator through a checkpoint.
    """

    config: TVaccineConfig
    layers: int
    p: list[float] | None = None
    selected: tuple[int, ...] | None = None
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"layers:{self.config.seed}")
        if self.config.method == "t_vaccine" and self.config.gamma > self.layers:
            raise InvalidRequest(
                f"gamma is {self.config.gamma}, but the model has {self.layers} layers. "
                f"Set gamma to {self.layers} or less.",
                param="gamma",
            )

    def probe_due(self, step: int) -> bool:
        """Whether the harmful set is probed at the start of this step (before any draw)."""
        return self.config.needs_harmful_rows and step % self.config.probe_every == 0

    def draw_due(self, step: int) -> bool:
        """Whether layers are drawn at the start of this step."""
        if self.config.method != "t_vaccine":
            return self.selected is None
        return step % self.config.draw_every == 0

    def record_probe(self, norms: Sequence[float]) -> None:
        """Take over the layers' gradient norms of a probe."""
        self.p = probabilities(norms)

    def draw(self) -> tuple[int, ...]:
        """Draw the layers of the coming window: all for Vaccine, none for plain supervised alignment."""
        if self.config.method == "vaccine":
            self.selected = tuple(range(self.layers))
        elif self.config.method == "sft":
            self.selected = ()
        else:
            p = self.p if self.p is not None else [1.0 / self.layers] * self.layers
            self.selected = draw_layers(p, self.config.gamma, self.config.select, self.rng)
        return self.selected

    def state(self) -> dict[str, Any]:
        """Plain JSON values."""
        version, internal, gauss = self.rng.getstate()
        selected = None if self.selected is None else list(self.selected)
        return {"p": self.p, "selected": selected, "rng": [version, list(internal), gauss]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        version, internal, gauss = state["rng"]
        self.rng.setstate((version, tuple(internal), gauss))
        self.p = state["p"]
        self.selected = None if state["selected"] is None else tuple(state["selected"])
