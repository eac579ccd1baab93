"""What the processes of one run under `torchrun` have to agree on. With a single process nothing here does anything.

Gradients are added up here and not by DistributedDataParallel: a step of ours runs parts of the model out of order and
twice, and changes what trains from time to time, which its bookkeeping does not foresee. Parameters that are sharded
over the ranks (torch's fully_shard) bring their own reduction, a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, distributed, nn


def ranks() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_sharded(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether each rank holds a part of these parameters only, and gradients are averaged where they are scattered."""
    if ranks() == 1:
        return False
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in parameters)


def part_of_sum(share: float, parameters: Sequence[nn.Parameter]) -> float:
    """What to multiply a rank's loss by so that in the end gradients are sums over the ranks of share * gradient."""
    return share * ranks() if is_sharded(parameters) else share


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all ranks; a parameter without one anywhere keeps none.

    parameters: the same on every rank, in the same order and on one device. One message for all of them. Sharded ones
    have been reduced already (see `part_of_sum`).
    """
    if ranks() == 1 or not parameters or is_sharded(parameters):
        return
    present = parameters[0].new_tensor([float(p.grad is not None) for p in parameters])
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    message = torch.cat([present, *(grad.flatten() for grad in grads)])
    distributed.all_reduce(message)
    sizes = [parameter.numel() for parameter in parameters]
    found, *summed = message.split([len(parameters), *sizes])
    for parameter, anywhere, total in zip(parameters, found.tolist(), summed, strict=True):
        if anywhere:
            parameter.grad = total.view_as(parameter).clone()


def from_first_rank(values: Sequence[float], device: torch.device) -> list[float]:
    """The first rank's numbers, on every rank; all must bring as many."""
    if ranks() == 1:
        return list(values)
    message = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.broadcast(message, src=0)
    told: list[float] = message.tolist()
    return told


def mean_over_ranks(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Each float as its mean over the ranks that bring one; what is no float as the first rank that has it says."""
    if ranks() == 1:
        return dict(numbers)
    told: list[dict[str, Any]] = [{} for _ in range(ranks())]
    distributed.all_gather_object(told, dict(numbers))
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in told for name in one):
        values = [one[name] for one in told if name in one]
        found[name] = fmean(values) if all(isinstance(value, float) for value in values) else values[0]
    return found


def agreed(ask: Callable[[], bool], device: torch.device) -> Callable[[], bool]:
    """Answers yes on every rank as soon as one rank's `ask` does; all ranks have to call it equally often."""

    def answer() -> bool:
        if ranks() == 1:
            return ask()
        message = torch.tensor(float(ask()), device=device)
        distributed.all_reduce(message, op=distributed.ReduceOp.MAX)
        return bool(message.item())

    return answer


def mean_over_ranks_becomes_sum(loss: Tensor) -> Tensor:
    """A rank's part of a total loss, for a Trainer that averages what it logs over the ranks."""
    return loss * ranks()
