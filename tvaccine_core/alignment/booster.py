"""The mathematics of Booster (arXiv 2409.01586): attenuate what one harmful gradient step gains.

With f the loss on refusals, h the loss on harmful answers and w the adapter's weights, Booster minimises

    f(w) + lambda * (h(w) - h(w')),    w' = w - alpha * grad h(w) / (||grad h(w)|| + 1e-7),

where the norm is one L2 norm over all tensors. The derivative of w' by w is taken as the identity, so that the
gradient is  grad f(w) + lambda * (grad h(w) - grad h(w')).  This module gives the bracket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tvaccine_core.alignment.adapter_weights import global_norm, preserved, take_gradients
from tvaccine_core.alignment.perturbation import STABILISER

# Leaves the gradient of a loss in the parameters' (empty) .grad and returns the loss, a detached scalar.
Backward = Callable[[], Tensor]


@dataclass(frozen=True)
class Attenuation:
    """What one harmful step tells.

    gradient: grad h(w) - grad h(w'), one tensor a parameter. loss: h(w). loss_after: h(w'), lower where the weights
    learn the harmful rows easily. norm: ||grad h(w)||. All scalars stay on the model's device.
    """

    gradient: list[Tensor]
    loss: Tensor
    loss_after: Tensor
    norm: Tensor


def attenuation(parameters: Sequence[Tensor], harmful: Backward, alpha: float) -> Attenuation:
    """grad h(w) - grad h(w') for the weights w in `parameters`, which keep every bit.

    harmful: the backward of h; called at w and at w' and must be the same function both times (same batch, same
    dropout masks). alpha: the L2 length of the step to w'.
    """
    loss = harmful()
    gradient = take_gradients(parameters)
    norm = global_norm(gradient)
    with preserved(parameters):
        normalised_step(parameters, gradient, alpha, norm)
        loss_after = harmful()
        after = take_gradients(parameters)
    with torch.no_grad():
        difference = [before.sub_(moved) for before, moved in zip(gradient, after, strict=True)]
    return Attenuation(difference, loss, loss_after, norm)


def normalised_step(parameters: Sequence[Tensor], gradient: Sequence[Tensor], alpha: float, norm: Tensor) -> None:
    """w <- w - alpha * g / (norm + 1e-7), in place; norm is the joint L2 norm of g."""
    factor = alpha / (norm + STABILISER)
    with torch.no_grad():
        for parameter, direction in zip(parameters, gradient, strict=True):
            parameter.sub_(direction * factor)
