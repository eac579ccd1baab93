"""Directions in weight space: normalised random ones, and towards another model. Steps are made tensor by tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from tvaccine_core.errors import InvalidRequest


class Direction(Protocol):
    """Gives each tensor its step d; the model at alpha has theta + alpha d."""

    @property
    def identity(self) -> str:
        """The same for the same steps, for the record of a sweep."""

    def step(self, name: str, weight: Tensor, is_norm: bool) -> Tensor | None:
        """d of the tensor `name`, shaped and placed as theta = `weight`; None: no step.

        is_norm: the tensor belongs to a normalisation layer.
        """


class RandomDirection:
    """A Gaussian tensor for each tensor, scaled to that tensor's Frobenius norm; none for normalisation layers.

    arXiv 2405.17374, section 3 (the normalisation that its script calls "layer"; the idea is the filter
    normalisation of Li et al., arXiv 1712.09913). Each tensor has a generator of its own on the CPU, seeded by the
    direction's seed and the tensor's name: the same direction for every model with these tensors, in any order, on
    any device. Tensors that are tied are one tensor with one step.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    @property
    def identity(self) -> str:
        """See Direction."""
        return f"random:{self.seed}"

    def step(self, name: str, weight: Tensor, is_norm: bool) -> Tensor | None:
        """See Direction."""
        if is_norm:
            return None
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float32).to(weight)
        length = torch.linalg.vector_norm(drawn)
        return drawn * (torch.linalg.vector_norm(weight) / length)


class TowardWeights:
    """The way from the model to another one: d = theta_1 - theta, so that alpha = 1 is the other model.

    target: the other model's tensors, as `PerturbableWeights.values` gives them. label: names it in the record.
    Raises InvalidRequest, at the first step to it, for a tensor that the other model lacks or has in another shape.
    """

    def __init__(self, target: Mapping[str, Tensor], label: str) -> None:
        self._target = target
        self._label = label

    @property
    def identity(self) -> str:
        """See Direction."""
        return f"toward:{self._label}"

    def step(self, name: str, weight: Tensor, is_norm: bool) -> Tensor | None:
        """See Direction; normalisation layers move too."""
        del is_norm
        other = self._target.get(name)
        if other is None or other.shape != weight.shape:
            raise InvalidRequest(
                f"The other model has no tensor {name} of shape {tuple(weight.shape)}; use a model of the same base.",
                param="target",
            )
        return other.to(weight) - weight
