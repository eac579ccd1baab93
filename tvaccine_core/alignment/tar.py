"""The mathematics of TAR (arXiv 2408.00761) on the weights of an adapter: resist an attacker who trains K steps.

From the weights w an attacker takes K optimizer steps on harmful answers, w_1 .. w_K. At every q-th of them the
resistance loss L on a batch of harmful answers that the attacker never sees is differentiated where the attacker
stands, and the gradients are applied at w, as if the attacker's steps were the identity (first order):

    v = lambda_TR / n * sum over n attackers, sum over k with q | k+1 of  c_k * grad L(w_{k+1}),   k = 0 .. K-1,
    c_k = exp(lambda_s * (k - (K - 1)))  or  1 / K,
    L = - mean over the answer positions of the entropy of the next token's distribution, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tvaccine_core.alignment.adapter_weights import preserved, take_gradients

# Leaves the gradient of a loss in the parameters' (empty) .grad and returns the loss, a detached scalar.
Backward = Callable[[], Tensor]


@dataclass(frozen=True)
class AttackPlan:
    """steps: K, 1 or more. measure_every: q, 1..K. growth: lambda_s, or None for the even weights 1 / K."""

    steps: int
    measure_every: int
    growth: float | None

    def measured(self) -> dict[int, float]:
        """The steps k after which the resistance is measured, each with its weight c_k."""
        return {k: self.weight(k) for k in range(self.steps) if (k + 1) % self.measure_every == 0}

    def weight(self, k: int) -> float:
        """c_k; 1 for the last step where the weights grow."""
        return 1.0 / self.steps if self.growth is None else math.exp(self.growth * (k - (self.steps - 1)))


@dataclass(frozen=True)
class Attack:
    """What one simulated attack shows.

    first_loss, last_loss: the attacker's loss at its first and its last step, before them. resistance: the weighted
    sum of L; entropy: the weighted mean of -L. Scalars on the model's device.
    """

    first_loss: Tensor
    last_loss: Tensor
    resistance: Tensor
    entropy: Tensor


def simulate_attack(
    parameters: Sequence[Tensor],
    attacker: torch.optim.Optimizer,
    attack: Backward,
    resist: Backward,
    plan: AttackPlan,
    buffer: Sequence[Tensor],
    scale: float,
) -> Attack:
    """Add scale * sum_k c_k * grad L(w_{k+1}) to `buffer`; the parameters keep every bit and have no gradient after.

    attacker: a fresh optimizer over `parameters`. attack: the backward of the attacker's loss on its next batch.
    resist: the backward of L. buffer: one tensor a parameter. scale: lambda_TR / n.
    """
    measured = plan.measured()
    losses: list[Tensor] = []
    weighted: list[Tensor] = []
    with preserved(parameters):
        for k in range(plan.steps):
            losses.append(attack())
            attacker.step()
            take_gradients(parameters)
            if k in measured:
                weighted.append(measured[k] * resist())
                for total, gradient in zip(buffer, take_gradients(parameters), strict=True):
                    total.add_(gradient, alpha=scale * measured[k])
    resistance = torch.stack(weighted).sum()
    return Attack(losses[0], losses[-1], resistance, -resistance / sum(measured.values()))


def mean_entropy(logits: Tensor) -> Tensor:
    """Mean over n positions of the entropy of softmax(logits), logits (n, V) -> scalar from 0 to ln V, in nats.

    Computed in float32 for lower precisions.
    """
    log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1).mean()


def is_bounded(entropy: Tensor, vocabulary: int, bound: float) -> Tensor:
    """Whether the entropy (nats) exceeds the share `bound` of ln V, the highest there is: nothing more to resist."""
    return entropy > bound * math.log(vocabulary)
