"""An adapter's weights as one vector: copies that restore every bit, norms over all tensors, gradients as buffers.

Methods that move the weights to measure something elsewhere (Booster, TAR, and defences of fine-tuning) are written on
these. Weights are restored from a copy: taking back a step by adding it again is not exact in floating point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tvaccine_core.alignment.perturbation import frobenius_norms, joint_norm


def trained(model: nn.Module, adapter_name: str) -> dict[str, nn.Parameter]:
    """The parameters of the adapter `adapter_name` that require a gradient, sorted by name."""
    found = {name: p for name, p in model.named_parameters() if f".{adapter_name}." in name and p.requires_grad}
    return dict(sorted(found.items()))


def snapshot(tensors: Iterable[Tensor]) -> list[Tensor]:
    """A copy of every tensor, detached and never a view."""
    return [tensor.detach().clone() for tensor in tensors]


def restore(parameters: Iterable[Tensor], kept: Iterable[Tensor]) -> None:
    """Write copies made by `snapshot` back, bit for bit. Raises ValueError if they are not as many."""
    with torch.no_grad():
        for parameter, copy in zip(parameters, kept, strict=True):
            parameter.copy_(copy)


@contextmanager
def preserved(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Inside the with block the parameters may be moved at will; afterwards every bit is as before, come what may.

    Yields the copies.
    """
    kept = snapshot(parameters)
    try:
        yield kept
    finally:
        restore(parameters, kept)


def global_norm(tensors: Iterable[Tensor]) -> Tensor:
    """One L2 norm over all entries of all tensors, as a scalar of at least float32. Needs one tensor or more."""
    return joint_norm(frobenius_norms(list(tensors)))


def take_gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients that a backward left, zeros where it left none; the parameters have none afterwards."""
    taken = []
    for parameter in parameters:
        taken.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        parameter.grad = None
    return taken


def add_gradients(parameters: Iterable[Tensor], gradients: Iterable[Tensor]) -> None:
    """Add buffers to what is in the parameters' gradients. Raises ValueError if they are not as many."""
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient.clone()
            else:
                parameter.grad.add_(gradient)
