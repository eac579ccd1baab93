"""The settings of Panacea. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvaccine_core.alignment.settings import number, whole
from tvaccine_core.finetuning.checked_settings import CheckedSettings


@dataclass(frozen=True, kw_only=True)
class PanaceaConfig(CheckedSettings):
    """Post-fine-tuning perturbation (Wang et al., arXiv 2501.18100): learn weights and an eps that raises harmful loss.

    rho: L2 norm of eps over all tensors of the user adapter together, 0..10000. What suits one rank, scale and number
        of layers does not suit another: look at `perturbation_ratio` in the report.
    lam (lambda of the paper): weight of the harmful loss's rise, 0..10000.
    harmful_batch: harmful rows of one optimizer step, 1..256.
    loss_cap: a step in which the harmful loss, before or under eps, lies above this takes the user's gradient alone,
        0..1000000. (Clamping the loss instead, as published, makes such a step learn the harmful rows.)
    final_rows: harmful rows that the last eps is computed from, at the final weights; 0: eps of the last step is
        added, as published, which belongs to the weights before the last update. 0..1000000.
    """

    name: ClassVar[str] = "panacea"
    subject: ClassVar[str] = "panacea"

    rho: float = number(1.0, 0.0, 1e4)
    lam: float = number(0.001, 0.0, 1e4)
    harmful_batch: int = whole(10, 1, 256)
    loss_cap: float = number(5.0, 0.0, 1e6)
    final_rows: int = whole(0, 0, 10**6)
