"""The settings of a Booster run. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from tvaccine_core.alignment.settings import AlignmentSettings, choice, flag, number, whole


@dataclass(frozen=True, kw_only=True)
class BoosterConfig(AlignmentSettings):
    """Settings of Booster (arXiv 2409.01586); what all methods share is in AlignmentSettings.

    lamb: weight lambda of the regulariser h(w) - h(w'), 0..1e4; 0 is plain supervised alignment.
    alpha: L2 length of the simulated harmful step over all adapter weights together, 0..1e4. Published pairs of lamb
        and alpha for 7B models: 5 and 0.1, 100 and 0.01.
    harmful_batch_size: harmful rows of one optimizer step, worked on batch_size rows at a time. Published: as many as
        rows of the alignment batch.
    perturb_aware: take the gradient on refusals under Vaccine's perturbation of every layer's attention output (four
        gradients a step in place of three). rho: its L2 norm, 0..1e4, for each micro-batch; ignored without it.
    scheme: "efficient", "two_pass" (the plain reference implementation, same numbers).
    memory_budget_gb: as for T-Vaccine, None or 0.01..1e5; the copy of the adapter and the gradient buffers (three
        times the adapter) come on top.
    """

    method: str = choice("booster", ("booster",))
    lamb: float = number(5.0, 0.0, 1e4)
    alpha: float = number(0.1, 0.0, 1e4)
    harmful_batch_size: int = whole(4)
    perturb_aware: bool = flag(False)
    rho: float = number(0.3, 0.0, 1e4)
    scheme: str = choice("efficient", ("efficient", "two_pass"))
    memory_budget_gb: float | None = number(None, 0.01, 1e5)
