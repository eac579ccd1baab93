"""Harmful embedding drift: how far fine-tuning moved the states that a model has on alignment rows.

For layer i, with a_i the output of its attention module before the residual addition:

    drift_i = sum over tokens ||a_i(after) - a_i(before)||^2 / number of tokens,    drift = sum_i drift_i

on fixed alignment rows, real tokens only (Vaccine, arXiv 2402.01109, section 3; its script sums ten batches without
dividing). Unit: squared activation a token; compare models of one architecture only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from tvaccine_core.data.row_forms import Row
from tvaccine_core.data.tokenise import Collator, encode_rows
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.metrics.run_states import in_order, kept_adapter, set_adapter_weights
from tvaccine_core.models.adapter_files import load_adapter_weights
from tvaccine_core.models.layers import find_layers
from tvaccine_core.training.checkpoints import checkpoint_step

Batch = Mapping[str, Tensor]
States = Callable[[Batch], list[Tensor]]
"""A batch -> for each layer the attention output of its real tokens, (n, d)."""

Part = tuple[list[float], int]
"""Squared distances of one batch, one a layer, and its tokens."""


@dataclass(frozen=True)
class Drift:
    """Drift of each layer, from the embedding end, and the number of tokens it is the mean of."""

    layers: tuple[float, ...]
    tokens: int

    @property
    def total(self) -> float:
        """Sum over the layers."""
        return sum(self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"total": self.total, "layers": list(self.layers), "tokens": self.tokens}


def fixed_batches(tokenizer: Any, rows: Sequence[Row], max_length: int, batch_size: int = 8) -> list[Batch]:
    """The rows as batches {input_ids, attention_mask, labels}, each (B, T), in order. Raises as `encode_rows`."""
    examples = encode_rows(tokenizer, rows, max_length)
    collate = Collator(tokenizer.pad_token_id)
    return [collate(examples[start : start + batch_size]) for start in range(0, len(examples), batch_size)]


def attention_states(model: Any) -> States:
    """What the model's attention modules give on a batch, as it stands when asked (adapters, weights)."""
    attention = find_layers(model).attention

    def states(batch: Batch) -> list[Tensor]:
        kept: list[Tensor] = []
        real = batch["attention_mask"].to(model.device).bool()

        def keep(_module: Any, _args: Any, output: Any) -> None:
            kept.append((output[0] if isinstance(output, tuple) else output)[real])

        training = model.training
        model.eval()
        try:
            with ExitStack() as hooks, torch.inference_mode():
                for module in attention:
                    hooks.callback(module.register_forward_hook(keep).remove)
                model(input_ids=batch["input_ids"].to(model.device), attention_mask=real.long(), use_cache=False)
        finally:
            model.train(training)
        return kept

    return states


def embedding_drift(before: States, after: States, batches: Iterable[Batch]) -> Drift:
    """The drift between two models, or two states of one: `before` and `after` are asked in turn, batch by batch.

    Differences and sums in float64. Raises InvalidRequest without any batch.
    """
    return _mean([_part(before(batch), after(batch)) for batch in batches])


def drift_curve(
    model: PeftModel, adapter: str, checkpoints: Sequence[Path], batches: Sequence[Batch]
) -> list[dict[str, Any]]:
    """The drift at each checkpoint of a run from the model as it is now: [{"step", "total", "layers", "tokens"}].

    adapter: the name of the run's adapter on the model; fresh (B = 0) it adds nothing, so that the model as it is now
    is the one before the run. Its weights are put back at the end. Raises InvalidRequest for a checkpoint that is
    incomplete or holds another adapter's tensors, and without any batch.
    """
    states = attention_states(model)
    parts: dict[Path, list[Part]] = {path: [] for path in in_order(checkpoints)}
    with kept_adapter(model, adapter) as start:
        for batch in batches:
            set_adapter_weights(model, adapter, start)
            before = states(batch)
            for path, found in parts.items():
                load_adapter_weights(model, adapter, path)
                found.append(_part(before, states(batch)))
    return [{"step": checkpoint_step(path), **_mean(found).to_dict()} for path, found in parts.items()]


def _part(before: Sequence[Tensor], after: Sequence[Tensor]) -> Part:
    pairs = list(zip(before, after, strict=True))
    return [float((new.double() - old.double()).square().sum()) for old, new in pairs], len(before[0])


def _mean(parts: Sequence[Part]) -> Drift:
    tokens = sum(count for _, count in parts)
    if tokens == 0:
        raise InvalidRequest("Drift needs at least one alignment row; add rows.", param="rows")
    columns = zip(*(squares for squares, _ in parts), strict=True)
    return Drift(tuple(sum(column) / tokens for column in columns), tokens)
