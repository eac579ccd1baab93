"""What the trainers of all fine-tuning defences share: a place in the optimizer step, and more in the checkpoint."""
# ruff: noqa: ARG002 - hooks that plain fine-tuning leaves empty

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from tvaccine_core.alignment.adapter_weights import trained
from tvaccine_core.alignment.cpu_attention import attend_in_float32
from tvaccine_core.alignment.lora_linear import LoraKernels
from tvaccine_core.training.files import write_json_atomic, write_text_atomic
from tvaccine_core.training.trainer import AdapterTrainer

STATE_FILE = "defence_state.json"
TENSORS_FILE = "defence_state.safetensors"


class StepEndCallback(TrainerCallback):
    """Calls its trainer after every optimizer step, before that step is logged and saved."""

    def __init__(self, trainer: DefendedTrainer) -> None:
        self._trainer = trainer

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """See `TrainerCallback`."""
        self._trainer.leave_step()


class DefendedTrainer(AdapterTrainer):
    """Plain fine-tuning, and the frame of its defences: a subclass overrides the hooks below.

    kept_files: name and text of files that every checkpoint carries, so that a resumed run has the same rows.
    A gradient that a defence adds is added once an optimizer step, whatever the number of micro-batches, and before
    clipping.
    """

    def __init__(self, *, kept_files: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kept_files = dict(kept_files or {})
        self.parameters = trained(self.model, self.adapter_name)
        self._entered: int | None = None
        self.add_callback(StepEndCallback(self))

    def run(self, resume_from: Path | None = None) -> None:
        """See AdapterTrainer. Vaccine and user adapter take part in one product while it trains."""
        kernels, restore_attention = LoraKernels(self.model), attend_in_float32(self.model)
        try:
            super().run(resume_from)
        finally:
            restore_attention()
            kernels.remove()

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One micro-batch; the first of an optimizer step also gets what the defence adds."""
        first = self.state.global_step != self._entered
        if first:
            self._entered = self.state.global_step
            model.train()
            self.enter_step()
        loss = super().training_step(model, inputs, num_items_in_batch)
        if first:
            self.add_defence_gradient()
        return loss

    def enter_step(self) -> None:
        """Called before the first micro-batch of an optimizer step; no gradient is there yet."""

    def add_defence_gradient(self) -> None:
        """Called once an optimizer step, when the gradients hold those of its first micro-batch."""

    def leave_step(self) -> None:
        """Called after the optimizer step; `state.global_step` counts it already."""

    def report(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the defence did, as plain JSON values. lines: the metrics of the finished run."""
        return {}

    def defence_state(self) -> tuple[dict[str, Any], dict[str, list[Tensor]]]:
        """What a checkpoint must hold: plain JSON values, and lists of one tensor for each of `parameters`."""
        return {}, {}

    def restore_defence_state(self, values: dict[str, Any], tensors: dict[str, list[Tensor]]) -> None:
        """Takes back what `defence_state` gave."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)
        directory = Path(output_dir or self.args.output_dir)
        for name, text in self.kept_files.items():
            write_text_atomic(directory / name, text)
        values, tensors = self.defence_state()
        if values or tensors:
            write_json_atomic(directory / STATE_FILE, {"groups": sorted(tensors), "values": values})
            save_file(self._named(tensors), directory / TENSORS_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        directory = Path(resume_from_checkpoint)
        if not (directory / STATE_FILE).is_file():
            return
        state = json.loads((directory / STATE_FILE).read_text(encoding="utf-8"))
        named = load_file(directory / TENSORS_FILE)
        groups = {
            group: [named[f"{group}/{name}"].to(p.device) for name, p in self.parameters.items()]
            for group in state["groups"]
        }
        self.restore_defence_state(state["values"], groups)

    def _named(self, groups: Mapping[str, Iterable[Tensor]]) -> dict[str, Tensor]:
        return {
            f"{group}/{name}": tensor.detach().to("cpu").contiguous()
            for group, tensors in groups.items()
            for name, tensor in zip(self.parameters, tensors, strict=True)
        }
