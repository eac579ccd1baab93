"""The same dropout masks in both passes, so that a perturbation belongs to the network it is applied to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from tvaccine_core.alignment.interception import Interceptor, Reseed


def has_dropout(model: nn.Module) -> bool:
    """Whether any part of the model draws dropout masks in training mode."""
    for module in model.modules():
        if isinstance(module, nn.Dropout) and module.p > 0.0:
            return True
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float) and value > 0.0:
                return True
    return False


def forked_generators(device: torch.device) -> AbstractContextManager[None]:
    """Inside the with block random numbers may be drawn at will; afterwards the generators are as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@contextmanager
def shared_masks(interceptor: Interceptor, device: torch.device, active: bool) -> Iterator[None]:
    """Seed each half of each layer anew in every pass of one step; afterwards the generators go on as before.

    Costs one number of the default generator a step. Does nothing where there is no dropout.
    """
    if not active:
        yield
        return
    base = int(torch.randint(2**60, ()).item())
    with forked_generators(device):
        interceptor.reseed = _reseed_from(base)
        try:
            yield
        finally:
            interceptor.reseed = None


def _reseed_from(base: int) -> Reseed:
    def reseed(layer: int, part: int) -> None:
        torch.manual_seed(base + 2 * layer + part)

    return reseed
