"""How many tokens of a batch are supervised, and batches in parts whose shares of them add up to one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from tvaccine_core.alignment.batch import IGNORED


def supervised_tokens(labels: Tensor) -> int:
    """How many tokens of labels (B, T) are learned; the first of a row is predicted from nothing and never counts."""
    return int((labels[:, 1:] != IGNORED).sum())


def token_share(labels: Tensor, count: Tensor | int | None) -> float:
    """The part that a micro-batch with these labels has in the `count` supervised tokens of an optimizer step.

    1.0 where the count is not known.
    """
    return 1.0 if count is None else supervised_tokens(labels) / int(count)


def parts(inputs: Mapping[str, Tensor], rows: int) -> Iterator[tuple[dict[str, Tensor], float]]:
    """Parts of at most `rows` rows, in order, each with its share of the batch's supervised tokens.

    inputs: {input_ids, attention_mask, labels}, each (B, T). A mean over the supervised tokens of the batch is the
    sum of the parts' means times their shares. Parts without a supervised token are left out.
    """
    count = supervised_tokens(inputs["labels"])
    for start in range(0, inputs["labels"].shape[0], rows):
        part = {name: tensor[start : start + rows] for name, tensor in inputs.items()}
        share = token_share(part["labels"], count) if count else 0.0
        if share > 0.0:
            yield part, share
