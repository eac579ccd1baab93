"""The perturbation of T-Vaccine and Vaccine: a step of length rho along the joint gradient of attention outputs.

eps_i = rho * g_i / (N + 1e-7) with N = sqrt(sum_i ||g_i||^2) over all drawn layers, tokens and rows (arXiv 2410.09760,
arXiv 2402.01109). Norms are taken in float32 whatever the model's dtype, in float64 for a float64 model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STABILISER = 1e-7


def frobenius_norm(tensor: Tensor) -> Tensor:
    """L2 norm over all entries as a scalar of at least float32."""
    return torch.linalg.vector_norm(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))


def frobenius_norms(tensors: Sequence[Tensor]) -> Tensor:
    """The L2 norm of each tensor, (len(tensors),). The L2 norm of the result is their joint norm."""
    return torch.stack([frobenius_norm(tensor) for tensor in tensors])


def joint_norm(norms: Tensor) -> Tensor:
    """One L2 norm over all entries of all tensors whose single norms these are."""
    return torch.linalg.vector_norm(norms)


def scale_to_perturbation(gradients: Sequence[Tensor], rho: float, norm: Tensor) -> None:
    """Turn the gradients g_i into eps_i = rho * g_i / (norm + 1e-7), in place."""
    factor = rho / (norm + STABILISER)
    for gradient in gradients:
        gradient.mul_(factor)
