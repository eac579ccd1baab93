"""The T-Vaccine step made cheap without changing its mathematics: same eps, same gradients, same update.

- What lies below the lowest drawn layer, and that layer's attention, is computed once and serves both passes.
- Pass 1 takes no gradient of any parameter and keeps no input for one; its backward ends at the lowest drawn layer's
  attention output.
- Only positions that predict a supervised token go through the last layer's MLP, the final norm and the head.
- Padding after the last supervised token is cut off; right-padded rows need no attention mask.
- Linear maps with an adapter run fused, layers are recomputed only as far as a memory budget demands.
- Perturbations are the gradients themselves, scaled in place, and each is given up as soon as it is added.
- For the window between two draws, frozen adapters can be folded into the base weights, and the frozen lowest layers
  run for several batches in one forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tvaccine_core.alignment.batch import SupervisedBatch, supervised_batch
from tvaccine_core.alignment.cpu_attention import attend_in_float32
from tvaccine_core.alignment.dropout import has_dropout, shared_masks
from tvaccine_core.alignment.folding import FoldedAdapters
from tvaccine_core.alignment.freezing import Window
from tvaccine_core.alignment.head import Head
from tvaccine_core.alignment.interception import Interceptor, Pass
from tvaccine_core.alignment.lora_linear import LoraKernels
from tvaccine_core.alignment.memory import MeasuringPass, Recompute, RecomputePlanner
from tvaccine_core.alignment.passes import GradientPass, TrainingPass, switch
from tvaccine_core.alignment.perturbation import frobenius_norms, joint_norm, scale_to_perturbation
from tvaccine_core.alignment.prefix import Prefixes, PrefixPass, joined_ids
from tvaccine_core.alignment.scheme import Backward, Inputs, Scheme, StepReport, unperturbed_report
from tvaccine_core.models.layers import Layers


class EfficientScheme(Scheme):
    """See the module's docstring. memory_budget: bytes, or None to recompute nothing.

    fold_frozen: fold adapters that are frozen for a window into the weights (float32 and float64 only; takes the memory
    of the folded weights once more).
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers,
        rho: float,
        memory_budget: float | None = None,
        *,
        fold_frozen: bool = False,
    ) -> None:
        super().__init__(model, layers, rho)
        self._last = len(layers) - 1
        self._interceptor = Interceptor(layers)
        self._kernels = LoraKernels(model)
        self._restore_attention = attend_in_float32(model)
        self._head = Head(model)
        self._dropout = has_dropout(model)
        self._folded = FoldedAdapters(self._kernels.modules if fold_frozen else ())
        self._prefixes = Prefixes()
        self._planner = None if memory_budget is None else RecomputePlanner(model, len(layers), memory_budget)

    def close(self) -> None:
        """See Scheme."""
        self._folded.unfold()
        self._interceptor.remove()
        self._kernels.remove()
        self._head.remove()
        self._restore_attention()

    def open_window(self, window: Window) -> None:
        """See Scheme."""
        super().open_window(window)
        self._prefixes.clear()
        self._folded.fold(window.trainable)

    def look_ahead(self, upcoming: Sequence[Inputs]) -> None:
        """See Scheme: runs the layers below everything that is perturbed or trained, for all these batches at once."""
        self._prefixes.clear()
        batches = [supervised_batch(inputs) for inputs in upcoming]
        depth = min((*self.window.selected[:1], self.window.lowest_trainable)) if self.window.selected else 0
        alike = not self._dropout and all(batch.attention_mask is None for batch in batches)
        if depth == 0 or not alike or len(batches) < 2:
            return
        current = PrefixPass(depth, self._last)
        with self._interceptor.using(current), torch.no_grad():
            self.model(input_ids=joined_ids(batches), use_cache=False)
        if current.hidden is not None:
            self._prefixes.add(depth, batches, current.hidden)

    def probe(self, inputs: Inputs, rows: int) -> list[float]:
        """See Scheme."""
        batch = supervised_batch(inputs)
        squares = torch.zeros(len(self.layers), dtype=torch.float64)
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for part in batch.split(rows):
            if part.targets.numel() > 0:
                squares += self._probe_part(part, batch.targets.numel(), trainable)
        norms: list[float] = squares.sqrt().tolist()
        return norms

    def _probe_part(self, part: SupervisedBatch, count: int, trainable: list[nn.Parameter]) -> Tensor:
        """Squared gradient norm at every layer, (L,) float64 on the CPU."""
        every = range(len(self.layers))
        recompute = (frozenset[int](), frozenset[int]())
        current = GradientPass(part, self._last, frozenset(every), trainable, len(every), recompute)
        try:
            loss = self._loss(current, part, count)
            gradients = torch.autograd.grad(loss, [current.outputs[i] for i in every])
        finally:
            switch(trainable, True)
        return frobenius_norms(gradients).double().cpu().square()

    def step(self, inputs: Inputs, backward: Backward) -> StepReport:
        """See Scheme."""
        batch = supervised_batch(inputs)
        recompute = self._plan(batch)
        with shared_masks(self._interceptor, batch.input_ids.device, self._dropout):
            if self.window.selected:
                return self._perturbed_step(batch, recompute, backward)
            plain = TrainingPass(batch, self._last, None, {}, recompute.second)
            return unperturbed_report(self._loss(plain, batch, batch.targets.numel(), then=backward))

    def _perturbed_step(self, batch: SupervisedBatch, recompute: Recompute, backward: Backward) -> StepReport:
        window, count = self.window, batch.targets.numel()
        sets = (recompute.first, recompute.second)
        first = GradientPass(
            batch,
            self._last,
            frozenset(window.selected),
            window.trainable,
            window.lowest_trainable,
            sets,
            self._prefixes.take(batch),
        )
        try:
            loss = self._loss(first, batch, count)
            eps = list(torch.autograd.grad(loss, [first.outputs[i] for i in window.selected]))
        finally:
            switch(window.trainable, True)
        norms = frobenius_norms(eps)
        scale_to_perturbation(eps, self.rho, joint_norm(norms))
        nominal = frobenius_norms(eps)
        by_layer = dict(zip(window.selected, eps, strict=True))
        second = TrainingPass(batch, self._last, first.shared, by_layer, recompute.second)
        del first, eps, by_layer  # the second pass alone holds each perturbation, until it has added it
        perturbed = self._loss(second, batch, count, then=backward)
        return StepReport(loss.detach(), perturbed.detach(), norms, nominal, torch.stack(second.shifts))

    def _loss(self, current: Pass, batch: SupervisedBatch, count: int, then: Backward | None = None) -> Tensor:
        """The loss of one forward that `current` directs; `then` (the backward) is called on it."""
        with self._interceptor.using(current), self._head.skipping():
            output = self.model(**batch.model_inputs(), use_cache=False).logits
            loss = self._head.loss(output, batch.targets, count)
            del output
            if then is not None:
                then(loss)
        return loss

    def _plan(self, batch: SupervisedBatch) -> Recompute:
        if self._planner is None:
            return Recompute()
        held = self._head.bytes_for(batch.targets.numel(), next(self.model.parameters()).element_size())
        held += self._folded.bytes
        window = self.window
        return self._planner.plan(batch, window.selected, window.lowest_trainable, held, self._measuring(batch))

    def _measuring(self, batch: SupervisedBatch) -> Callable[[MeasuringPass, bool], None]:
        """Runs a forward for the planner, with adapters in the graph or not."""

        def run(measuring: MeasuringPass, trains: bool) -> None:
            switch(self.window.trainable, trains)
            try:
                with self._interceptor.using(measuring), torch.no_grad():
                    self.model(**batch.model_inputs(), use_cache=False)
            finally:
                switch(self.window.trainable, True)

        return run
