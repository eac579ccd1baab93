"""What happens in the layers of one model of a grid: drift on alignment rows, and gradient norms on harmful ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from tvaccine_core.attacks.conversations import ChatRow
from tvaccine_core.evaluation.judge.features import stock
from tvaccine_core.evaluation.subject import BASELINE, Subject
from tvaccine_core.experiments.materials import as_rows
from tvaccine_core.metrics.drift import Batch, States, attention_states, embedding_drift, fixed_batches
from tvaccine_core.metrics.layer_curves import layer_gradient_norms


def measure_drift(subject: Subject, start: Path | None, rows: Sequence[ChatRow], max_length: int) -> dict[str, Any]:
    """Harmful embedding drift of the model from the one that its attack started from, on alignment rows.

    start: that model's vaccine, None for the stock base. Gives {"total", "layers", "tokens"}, squared activation a
    token (see `metrics.drift`). Raises BaseMismatch for a vaccine of another base.
    """
    batches = fixed_batches(subject.base.tokenizer, as_rows(rows), max_length)
    with _before_and_after(subject, start) as (before, after):
        return embedding_drift(before, after, batches).to_dict()


def measure_gradient_norms(subject: Subject, rows: Sequence[ChatRow], max_length: int) -> dict[str, Any]:
    """Gives {"layers": G_i from the embedding end, "rows"}, on harmful rows in one batch (arXiv 2410.09760)."""
    (batch,) = fixed_batches(subject.base.tokenizer, as_rows(rows), max_length, len(rows))
    return {"layers": layer_gradient_norms(subject.base.model, batch), "rows": len(rows)}


@contextmanager
def _before_and_after(subject: Subject, start: Path | None) -> Iterator[tuple[States, States]]:
    """The states of both models: they are one base, whose adapters are switched from batch to batch."""
    model = subject.base.model
    states = attention_states(model)
    if start is None:

        def before(batch: Batch) -> list[Tensor]:
            with stock(model):
                return states(batch)

        yield before, states
        return
    own = model.active_adapter

    def under(adapter: str) -> States:
        def switched(batch: Batch) -> list[Tensor]:
            model.set_adapter(adapter, inference_mode=True)
            return states(batch)

        return switched

    with subject.vaccinated_only(start):
        yield under(BASELINE), under(own)
