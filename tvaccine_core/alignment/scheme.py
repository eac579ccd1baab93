"""What every way of computing an alignment step has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tvaccine_core.alignment.freezing import Window
from tvaccine_core.alignment.perturbation import joint_norm
from tvaccine_core.models.layers import Layers

Inputs = Mapping[str, Tensor]
Backward = Callable[[Tensor], None]


@dataclass(frozen=True)
class StepReport:
    """Measures of one step, on the model's device.

    loss: before the perturbation; loss_perturbed: the loss whose gradient was left in the adapters (equal to loss
    without a perturbation); both scalars. One norm for each drawn layer, in order: gradients: of g_i; eps: of eps_i;
    shifts: of what the attention output really changed by, which differs where low precision rounds eps away.
    """

    loss: Tensor
    loss_perturbed: Tensor
    gradients: Tensor
    eps: Tensor
    shifts: Tensor

    def values(self) -> dict[str, float]:
        """Both losses and the joint norms over the drawn layers as floats, in one transfer from the device."""
        names = ("loss", "loss_perturbed", "gradient_norm", "eps_norm", "eps_norm_effective")
        norms = [joint_norm(single) for single in (self.gradients, self.eps, self.shifts)]
        tensors = (self.loss, self.loss_perturbed, *norms)
        stacked = torch.stack([tensor.detach().to(torch.float64) for tensor in tensors])
        return dict(zip(names, stacked.tolist(), strict=True))


class Scheme(ABC):
    """Computes gradients of alignment steps for one model with adapters, in place.

    Inputs are {"input_ids", "attention_mask", "labels"}, each (B, T), labels -100 where not supervised.
    """

    def __init__(self, model: nn.Module, layers: Layers, rho: float) -> None:
        self.model = model
        self.layers = layers
        self.rho = rho
        self.window = Window((), (), len(layers))

    def open_window(self, window: Window) -> None:
        """Take over what holds until the next draw."""
        self.window = window

    def look_ahead(self, upcoming: Sequence[Inputs]) -> None:
        """Batches of the steps to come in this window, in order: a scheme may compute in advance what they share."""
        del upcoming

    @abstractmethod
    def probe(self, inputs: Inputs, rows: int) -> list[float]:
        """The Frobenius norm of d loss / d a_i for every layer i; no gradient is left anywhere.

        At most `rows` rows are worked on at a time (the norms are those of the whole batch).
        """

    @abstractmethod
    def step(self, inputs: Inputs, backward: Backward) -> StepReport:
        """Leave the gradient of the perturbed loss in the trainable adapters by calling `backward` on that loss."""

    @abstractmethod
    def close(self) -> None:
        """Give the model back as it was."""


def unperturbed_report(loss: Tensor) -> StepReport:
    """The report of a step without a perturbation."""
    none = torch.zeros(0, device=loss.device)
    return StepReport(loss.detach(), loss.detach(), none, none, none)
