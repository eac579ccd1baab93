"""Policies by name: how a vaccine is made and what fine-tuning does against harmful rows, chosen together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PolicyName = Literal["t_vaccine", "tar_lisa"]


@dataclass(frozen=True)
class Policy:
    """vaccine: alignment settings that differ from the defaults. defences: names, or objects with name and settings."""

    vaccine: Mapping[str, Any] = field(default_factory=dict)
    defences: tuple[Any, ...] = ()


POLICIES: Mapping[PolicyName, Policy] = {
    # T-Vaccine alone (arXiv 2410.09760).
    "t_vaccine": Policy(),
    # TAR (arXiv 2408.00761), then Lisa (arXiv 2405.18641), as tuned and compared in docs/results/defences.md.
    "tar_lisa": Policy(
        vaccine={"method": "tar", "steps": 48, "learning_rate": 2e-3, "lambda_tr": 1, "inner_steps": 4},
        defences=({"name": "lisa", "rho": 0.1},),
    ),
}
