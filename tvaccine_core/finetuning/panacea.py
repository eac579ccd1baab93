"""Panacea (Wang et al., arXiv 2501.18100): min_w max_{||eps|| <= rho} g(w) - lambda [h(w + eps) - h(w)], then w + eps.

g is the loss on the user's rows, h that on the provider's harmful rows, w the tensors of the user adapter (A and B of
each, not their product), and all norms are taken over all of them together. Per optimizer step:
    g_h  = grad h(w),  eps = rho g_h / (||g_h|| + 1e-7),  g_h' = grad h(w + eps) on the same harmful rows,
    grad = g_u - lambda (g_h' - g_h),
where the bracket is left out if h(w) or h(w + eps) exceeds `loss_cap`. After the last step eps is added to the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tvaccine_core.alignment.adapter_weights import add_gradients, global_norm, preserved, snapshot
from tvaccine_core.alignment.dropout import forked_generators
from tvaccine_core.alignment.harmful import HarmfulBatches
from tvaccine_core.alignment.perturbation import scale_to_perturbation
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.finetuning.defended_trainer import DefendedTrainer
from tvaccine_core.finetuning.panacea_config import PanaceaConfig
from tvaccine_core.models.layers import find_layers
from tvaccine_core.training.loss import answer_loss


class PanaceaTrainer(DefendedTrainer):
    """Fine-tunes under the perturbation. harmful: batches of `config.harmful_batch` rows; nobody is taught them.

    With gradient accumulation there is one harmful batch an optimizer step. The harmful passes take their dropout
    masks from a copy of the random state, both the same: they belong to one network, and the user's pass sees the
    masks that it would see without a defence.
    """

    def __init__(self, *, config: PanaceaConfig, harmful: HarmfulBatches, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.harmful = harmful
        self.start = snapshot(self.parameters.values())
        self.eps = [torch.zeros_like(tensor) for tensor in self.start]
        self._bracket: list[Tensor] | None = None
        self._losses = (0.0, 0.0)
        self._facts: dict[str, Any] = {}

    def enter_step(self) -> None:
        """The two harmful gradients; leaves eps and the bracket, and every bit of the weights as it was."""
        batch: dict[str, Tensor] = self._prepare_inputs(self.harmful.next())
        loss, gradient = self._harmful_gradient(batch)
        self.eps = snapshot(gradient)
        scale_to_perturbation(self.eps, self.config.rho, global_norm(gradient))
        with preserved(list(self.parameters.values())):
            self._move_by_eps()
            raised, perturbed = self._harmful_gradient(batch)
        self._losses = loss, raised
        within = max(loss, raised) <= self.config.loss_cap
        self._bracket = [new - old for new, old in zip(perturbed, gradient, strict=True)] if within else None

    def add_defence_gradient(self) -> None:
        """- lambda (g_h' - g_h)"""
        if self._bracket is not None:
            add_gradients(self.parameters.values(), [-self.config.lam * tensor for tensor in self._bracket])

    def step_metrics(self) -> dict[str, float]:
        """h(w) and h(w + eps) of the step, and whether its bracket was left out."""
        return {
            "harmful_loss": self._losses[0],
            "harmful_loss_perturbed": self._losses[1],
            "bracket_dropped": float(self._bracket is None),
        }

    def perturb(self) -> None:
        """Adds eps to the weights, for good. With `final_rows` it is computed anew first, at these weights.

        Raises InvalidRequest if eps is no number.
        """
        if self.config.final_rows:
            self._renew_eps()
        length = float(global_norm(self.eps))
        if not math.isfinite(length):
            raise InvalidRequest(
                "The gradient of the harmful rows is no number; lower the learning rate.",
                code="training_diverged",
                param="learning_rate",
            )
        moved = [p.detach() - start for p, start in zip(self.parameters.values(), self.start, strict=True)]
        change = float(global_norm(moved))
        self._facts = {
            "eps_norm": length,
            "eps_norm_by_layer": self._norms_by_layer(),
            "weight_change": change,
            "perturbation_ratio": length / change if change else None,
        }
        self._move_by_eps()

    def report(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """After `perturb`: ||eps|| as a whole and by layer, beside ||w - w_0|| of this run; the harmful loss before
        and under eps in the last step; steps without the bracket."""
        last: Mapping[str, Any] = next((line for line in reversed(lines) if "harmful_loss" in line), {})
        return {
            **self._facts,
            "harmful_loss": last.get("harmful_loss"),
            "harmful_loss_perturbed": last.get("harmful_loss_perturbed"),
            "brackets_dropped": sum(line.get("bracket_dropped") or 0 for line in lines),
        }

    def defence_state(self) -> tuple[dict[str, Any], dict[str, list[Tensor]]]:
        """eps of the last step, for a run that ends here, and how many harmful rows were taken."""
        return {"harmful_taken": self.harmful.taken}, {"eps": self.eps}

    def restore_defence_state(self, values: dict[str, Any], tensors: dict[str, list[Tensor]]) -> None:
        """See DefendedTrainer."""
        self.harmful.taken = values["harmful_taken"]
        self.eps = tensors["eps"]

    def _harmful_gradient(self, batch: dict[str, Tensor]) -> tuple[float, list[Tensor]]:
        with forked_generators(batch["input_ids"].device):
            loss = answer_loss(self.model, batch)
            gradient = torch.autograd.grad(loss, list(self.parameters.values()))
        return float(loss.detach()), list(gradient)

    def _renew_eps(self) -> None:
        """eps from the mean gradient over `final_rows` harmful rows, in whole batches, without dropout."""
        self.model.eval()
        total = [torch.zeros_like(tensor) for tensor in self.start]
        first = self.harmful.taken
        while self.harmful.taken - first < self.config.final_rows:
            _, gradient = self._harmful_gradient(self._prepare_inputs(self.harmful.next()))
            for sum_, part in zip(total, gradient, strict=True):
                sum_.add_(part)
        scale_to_perturbation(total, self.config.rho, global_norm(total))
        self.eps = total

    def _move_by_eps(self) -> None:
        with torch.no_grad():
            for parameter, step in zip(self.parameters.values(), self.eps, strict=True):
                parameter.add_(step)

    def _norms_by_layer(self) -> list[float]:
        named = dict(zip(self.parameters, self.eps, strict=True))
        norms = []
        for path in find_layers(self.model).layer_paths:
            inside = [tensor for name, tensor in named.items() if name.startswith(path + ".")]
            norms.append(float(global_norm(inside)) if inside else 0.0)
        return norms
