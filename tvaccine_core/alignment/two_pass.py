"""The reference implementation of a T-Vaccine step: two plain passes, nothing clever.

Kept simple on purpose; every other scheme is tested against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tvaccine_core.alignment.dropout import forked_generators
from tvaccine_core.alignment.loss import shifted_cross_entropy
from tvaccine_core.alignment.perturbation import frobenius_norm, frobenius_norms, joint_norm, scale_to_perturbation
from tvaccine_core.alignment.scheme import Backward, Inputs, Scheme, StepReport, unperturbed_report

Change = Callable[[Tensor], Tensor]


class TwoPassScheme(Scheme):
    """Pass 1 asks for the gradients at zero tensors added to the attention outputs, pass 2 adds eps to them."""

    def probe(self, inputs: Inputs, rows: int) -> list[float]:
        """See Scheme; works on the whole batch at once."""
        del rows
        _, gradients = self.attention_gradients(inputs, range(len(self.layers)))
        return [float(frobenius_norm(gradient)) for gradient in gradients]

    def step(self, inputs: Inputs, backward: Backward) -> StepReport:
        """See Scheme."""
        selected = self.window.selected
        if not selected:
            loss = self._loss(inputs)
            backward(loss)
            return unperturbed_report(loss)
        with forked_generators(inputs["input_ids"].device):  # pass 2 draws the same dropout masks again
            loss, eps = self.attention_gradients(inputs, selected)
        norms = frobenius_norms(eps)
        scale_to_perturbation(eps, self.rho, joint_norm(norms))
        shifts: list[Tensor] = []
        changes = {i: _adding(e, shifts) for i, e in zip(selected, eps, strict=True)}
        with changed_attention(self.layers.attention, changes):
            perturbed = self._loss(inputs)
        backward(perturbed)
        return StepReport(loss, perturbed.detach(), norms, frobenius_norms(eps), frobenius_norms(shifts))

    def close(self) -> None:
        """See Scheme; nothing was changed."""

    def _loss(self, inputs: Inputs) -> Tensor:
        logits = self.model(
            input_ids=inputs["input_ids"], attention_mask=inputs.get("attention_mask"), use_cache=False
        ).logits
        return shifted_cross_entropy(logits, inputs["labels"])

    def attention_gradients(self, inputs: Inputs, selected: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The unperturbed loss and d loss / d a_i, (B, T, d), for each selected layer i."""
        zeros: dict[int, Tensor] = {}

        def add_zero(index: int) -> Change:
            def change(output: Tensor) -> Tensor:
                zeros[index] = torch.zeros_like(output, requires_grad=True)
                return output + zeros[index]

            return change

        with changed_attention(self.layers.attention, {i: add_zero(i) for i in selected}):
            loss = self._loss(inputs)
        return loss.detach(), list(torch.autograd.grad(loss, [zeros[i] for i in selected]))


def _adding(eps: Tensor, shifts: list[Tensor]) -> Change:
    def change(output: Tensor) -> Tensor:
        shifted = output + eps
        shifts.append((shifted - output).detach())
        return shifted

    return change


@contextmanager
def changed_attention(attention: tuple[nn.Module, ...], changes: Mapping[int, Change]) -> Iterator[None]:
    """Inside the with block, the output of attention module i goes through changes[i]."""

    def hook_for(change: Change) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            del module, args
            return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

        return hook

    handles = [attention[i].register_forward_hook(hook_for(change)) for i, change in changes.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
