"""The settings of random noise. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tvaccine_core.alignment.settings import number, whole
from tvaccine_core.finetuning.checked_settings import CheckedSettings

RANDOM_NOISE = "random_noise"


@dataclass(frozen=True, kw_only=True)
class NoiseConfig(CheckedSettings):
    """sigma: standard deviation of the noise on every entry of every tensor, 0..10. seed: 0..2147483647."""

    subject: ClassVar[str] = "random noise"
    name: ClassVar[str] = RANDOM_NOISE

    sigma: float = number(0.01, 0.0, 10.0)
    seed: int = whole(42, 0, 2**31 - 1)

    def to_dict(self) -> dict[str, Any]:
        """With the name: nothing else tells it from another repair."""
        return {"name": self.name, **super().to_dict()}
