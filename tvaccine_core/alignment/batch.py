"""An alignment batch reduced to what the loss needs: no useless padding, and the positions that predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100

# Lengths are kept to a multiple of this where the rows are long enough: odd sizes slow attention kernels down.
_ALIGNED = 8


@dataclass(frozen=True)
class SupervisedBatch:
    """A batch and its supervised predictions.

    input_ids: (B, T). attention_mask: (B, T), or None if every row is right padded (a causal model never lets a
    real position see what follows it, so the mask changes nothing then).
    positions: (n,) indices into the flattened (B*T) positions whose *next* token is supervised.
    targets: (n,) those next tokens.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    positions: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """How many positions the model computes, padding included."""
        return self.input_ids.numel()

    def model_inputs(self) -> dict[str, Tensor | None]:
        """Keyword arguments for the model's forward."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}

    def split(self, rows: int) -> list[SupervisedBatch]:
        """Parts of at most `rows` rows, in order; the parts' targets add up to this batch's."""
        length = self.input_ids.shape[1]
        parts = []
        for start in range(0, self.input_ids.shape[0], rows):
            stop = start + rows
            inside = (self.positions >= start * length) & (self.positions < stop * length)
            mask = None if self.attention_mask is None else self.attention_mask[start:stop]
            positions = self.positions[inside] - start * length
            parts.append(SupervisedBatch(self.input_ids[start:stop], mask, positions, self.targets[inside]))
        return parts


def supervised_batch(inputs: Mapping[str, Tensor]) -> SupervisedBatch:
    """Reduce {input_ids, attention_mask?, labels} of shape (B, T) each; labels are -100 where not supervised.

    Position t predicts labels[:, t + 1]. Columns after the last predicting position are dropped, but for a few that
    make the length a multiple of 8: in a causal model nothing that the loss sees depends on them. Raises ValueError
    if nothing is supervised.
    """
    labels = inputs["labels"]
    following = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    columns = (following != IGNORED).any(dim=0).nonzero()
    if columns.numel() == 0:
        raise ValueError("no token of the batch is supervised; leave out rows without an answer")
    length = min(-(-(int(columns[-1]) + 1) // _ALIGNED) * _ALIGNED, labels.shape[1])
    following = following[:, :length].reshape(-1)
    positions = (following != IGNORED).nonzero().squeeze(1)
    mask = inputs.get("attention_mask")
    if mask is not None:
        mask = None if is_right_padded(mask) else mask[:, :length].contiguous()
    return SupervisedBatch(
        input_ids=inputs["input_ids"][:, :length].contiguous(),
        attention_mask=mask,
        positions=positions,
        targets=following[positions],
    )


def is_right_padded(mask: Tensor) -> bool:
    """Whether every row of a (B, T) mask is ones followed by zeros, starting with a one."""
    kept = mask != 0
    return bool(kept[:, 0].all()) and not bool((kept[:, 1:] & ~kept[:, :-1]).any())


def gather_positions(hidden: Tensor, positions: Tensor) -> Tensor:
    """(B, T, d) and (n,) flat positions -> (1, n, d), differentiable."""
    return torch.index_select(hidden.reshape(-1, hidden.shape[-1]), 0, positions).unsqueeze(0)
