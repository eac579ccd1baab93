"""The settings of a TAR run. Torch-free."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvaccine_core.alignment.heldout import split_by_prompt
from tvaccine_core.alignment.settings import AlignmentSettings, choice, number, whole
from tvaccine_core.data.rows import Row
from tvaccine_core.errors import InvalidRequest

_MOST_RATES = 16


def _learning_rates(*default: float) -> Any:
    """A field of 1..16 learning rates from 1e-9 to 1."""

    def rule(name: str, value: Any) -> None:
        rates = value if isinstance(value, tuple) else ()
        if not 1 <= len(rates) <= _MOST_RATES or not all(_is_rate(rate) for rate in rates):
            raise InvalidRequest(
                f"{name} must be a list of 1 to {_MOST_RATES} numbers from 1e-09 to 1, not {value!r}.", param=name
            )

    return dataclasses.field(default=default, metadata={"rule": rule})


def _is_rate(value: Any) -> bool:
    right_kind = isinstance(value, int | float) and not isinstance(value, bool)
    return right_kind and math.isfinite(value) and 1e-9 <= value <= 1.0


@dataclass(frozen=True, kw_only=True)
class TarConfig(AlignmentSettings):
    """Settings of TAR (arXiv 2408.00761) at small scale; what all methods share is in AlignmentSettings.

    lambda_tr: weight of the resistance gradient beside that of the loss on refusals, 0..1e4; 0 is plain supervised
        alignment. Published: 4.
    inner_steps (K): steps of a simulated attacker, 1..1000. Published: 64, here 4 to 16 are meant.
    measure_every (q): the resistance is measured after every q-th of them, 1..K and a divisor of K, so that the last
        step is always measured. Published: 4.
    weights: of the measured steps: "growing", exp(lambda_s * (k - (K - 1))) for k = 0..K-1, or "even", 1 / K.
        lambda_s: 0..100, published 0.0625; ignored with "even".
    attacks: attackers simulated for one optimizer step, 1..64, each with harmful rows, a learning rate and a held-out
        batch of its own; their gradients are averaged. Published: 1.
    attacker: its optimizer, "adamw" (without weight decay) or "sgd". attacker_learning_rates: 1..16 rates, each
        1e-9..1; every attacker gets one of them, drawn at random.
    harmful_batch_size: rows of one attacker step. heldout_batch_size: harmful rows that the resistance of one attacker
        is measured on. Both are worked on batch_size rows at a time.
    heldout_share: share of the harmful prompts whose rows attackers never see, 0.01..0.5.
    entropy_bound: the resistance gradient is left out of a step whose entropy is above this share of ln V (V tokens
        in the vocabulary, ln V the entropy of a blind guess), 0..1; 1 never leaves it out.
    scheme: "efficient", "two_pass" (the plain reference implementation, same numbers).
    """

    method: str = choice("tar", ("tar",))
    lambda_tr: float = number(4.0, 0.0, 1e4)
    inner_steps: int = whole(8, 1, 1000)
    measure_every: int = whole(4, 1, 1000)
    weights: str = choice("growing", ("growing", "even"))
    lambda_s: float = number(0.0625, 0.0, 100.0)
    attacks: int = whole(1, 1, 64)
    attacker: str = choice("adamw", ("adamw", "sgd"))
    attacker_learning_rates: tuple[float, ...] = _learning_rates(2e-4, 5e-4, 1e-3)
    harmful_batch_size: int = whole(4)
    heldout_batch_size: int = whole(4)
    heldout_share: float = number(0.2, 0.01, 0.5)
    entropy_bound: float = number(0.9, 0.0, 1.0)
    scheme: str = choice("efficient", ("efficient", "two_pass"))

    def __post_init__(self) -> None:
        if isinstance(self.attacker_learning_rates, list):  # as JSON has it
            object.__setattr__(self, "attacker_learning_rates", tuple(self.attacker_learning_rates))
        super().__post_init__()
        if self.inner_steps % self.measure_every != 0:
            raise InvalidRequest(
                f"measure_every must divide inner_steps ({self.inner_steps}), so that the attacker's last step is "
                f"measured; {self.measure_every} does not.",
                param="measure_every",
            )

    def check_rows(self, alignment: Sequence[Row], harmful: Sequence[Row]) -> None:
        """See AlignmentSettings."""
        del alignment
        split_by_prompt(harmful, self.heldout_share, self.seed)

    def to_dict(self) -> dict[str, Any]:
        """See AlignmentSettings."""
        return super().to_dict() | {"attacker_learning_rates": list(self.attacker_learning_rates)}
