"""Policies by name: how a vaccine is made and what fine-tuning does against harmful rows, chosen together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PolicyName = Literal["t_vaccine", "t_vaccine_lisa"]


@dataclass(frozen=True)
class Policy:
    """vaccine: alignment settings that differ from the defaults. defences: names, or objects with name and settings."""

    vaccine: Mapping[str, Any] = field(default_factory=dict)
    defences: tuple[Any, ...] = ()


POLICIES: Mapping[PolicyName, Policy] = {
    # T-Vaccine alone (arXiv 2410.09760).
    "t_vaccine": Policy(),
    # The same, then Lisa (arXiv 2405.18641), with the settings tuned and compared in docs/results/defences.md.
    "t_vaccine_lisa": Policy(
        vaccine={
            "method": "t_vaccine",
            "steps": 48,
            "learning_rate": 2e-3,
            "rho": 0.3,
            "gamma": 4,
            "draw_every": 16,
            "probe_every": 16,
        },
        defences=({"name": "lisa", "rho": 0.1, "alignment_steps": 2},),
    ),
}
