"""The settings of a T-Vaccine, Vaccine or plain supervised alignment run. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvaccine_core.alignment.settings import AlignmentSettings, choice, flag, number, whole


@dataclass(frozen=True, kw_only=True)
class TVaccineConfig(AlignmentSettings):
    """Settings of one alignment run; what all methods share is in AlignmentSettings.

    method: "t_vaccine" (perturb and train drawn layers), "vaccine" (perturb every layer, freeze nothing; gamma is
        ignored), "sft" (no perturbation; rho and gamma are ignored).
    rho: L2 norm of the perturbation of all drawn layers of a batch together. It is shared by all rows, tokens and
        drawn layers, so what suits one model size does not suit another: match the ratio of perturbation to
        attention output, not rho. 3 is the published value for 7B models, far too large for a 135M one.
    gamma: how many layers are drawn. draw_every (J): optimizer steps between draws. probe_every (K): optimizer
        steps between probes of the harmful set. probe_batch: rows of one probe (the published code uses 1).
    freeze_scope: what is frozen in a layer that is not drawn. "attention": the adapters of its attention module
        (MLP adapters train, as in the published code); "layer": all of its adapters.
    mlp_below: with freeze_scope "attention", whether MLP adapters *below the lowest drawn layer* train too. True
        is the plain meaning of "MLP adapters train everywhere". False stops the backward pass at the lowest drawn
        layer and runs what is below without a graph: it is cheaper when that layer is high, and it is what the
        published code does by way of re-entrant checkpointing.
    select: "weighted" (drawn with the probe's probabilities), "topk" (the gamma largest), "uniform".
    scheme: "efficient", "two_pass" (the plain reference implementation, same numbers), "published" (eager
        attention, re-entrant checkpointing, full logits: for benchmarks only).
    memory_budget_gb: upper bound, in 10^9 bytes, that weights, adapters with their optimizer state, and stored
        activations of a training step should stay under; layers are recomputed as far as needed. None: recompute
        nothing. Only for the efficient scheme.
    fold_frozen: fold adapters that are frozen until the next draw into the base weights (float32 and float64, efficient
        scheme only). prefix_batches: of how many micro-batches the lowest layers, where nothing is perturbed and
        nothing trains, run in one forward; 1: each by itself. Both give the same numbers, to rounding.

    Each micro-batch gets its own perturbation. lora_dropout above 0 uses the same masks in both passes, so that the
    perturbation belongs to the network it is applied to.
    """

    method: str = choice("t_vaccine", ("t_vaccine", "vaccine", "sft"))
    rho: float = number(0.3, 0.0, 1e4)
    gamma: int = whole(8)
    probe_every: int = whole(200)
    draw_every: int = whole(20)
    probe_batch: int = whole(8)
    freeze_scope: str = choice("attention", ("attention", "layer"))
    mlp_below: bool = flag(True)
    select: str = choice("weighted", ("weighted", "topk", "uniform"))
    scheme: str = choice("efficient", ("efficient", "two_pass", "published"))
    memory_budget_gb: float | None = number(None, 0.01, 1e5)
    fold_frozen: bool = flag(False)
    prefix_batches: int = whole(1, 1, 256)

    without_harmful_rows: ClassVar[str] = "use the method 'vaccine' or select 'uniform'"

    @property
    def needs_harmful_rows(self) -> bool:
        """Whether the run probes a harmful set at all."""
        return self.method == "t_vaccine" and self.select != "uniform"

    @property
    def may_share_prompts(self) -> bool:
        """No: what is probed would be measured on prompts that were trained on."""
        return False
