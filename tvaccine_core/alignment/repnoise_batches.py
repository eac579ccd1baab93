"""What a RepNoise step reads: pairs whose labels are the tokens in which the two answers differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from tvaccine_core.alignment.repnoise_pairs import Pairing
from tvaccine_core.data.tokenise import IGNORED, Collator, Example, encode_rows
from tvaccine_core.training.order import ShuffledPasses


@dataclass(frozen=True, slots=True)
class PairedExample:
    """A tokenised pair with masked labels, and perhaps an alignment row that has no pair."""

    harmful: Example
    safe: Example
    unpaired: Example | None = None


def masked_by(example: Example, other: Example) -> Example:
    """`example` with labels only where its token differs from the other's at the same place, or the other has none."""
    shared = [mine == theirs for mine, theirs in zip(example.input_ids, other.input_ids, strict=False)]
    shared += [False] * (len(example.input_ids) - len(shared))
    labels = [IGNORED if same else label for same, label in zip(shared, example.labels, strict=True)]
    return Example(example.input_ids, labels)


class PairedPasses(Dataset[PairedExample]):
    """`length` draws of a pair each, pass after pass, and beside each an unpaired row where there are any.

    Both orders are pure functions of the seed, independent of each other.
    """

    def __init__(self, pairs: Sequence[PairedExample], unpaired: Sequence[Example], length: int, seed: int) -> None:
        self._pairs = ShuffledPasses(pairs, length, seed)
        self._unpaired = ShuffledPasses(unpaired, length, seed + 1) if unpaired else None

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, place: int) -> PairedExample:
        pair = self._pairs[place]
        if self._unpaired is None:
            return pair
        return PairedExample(pair.harmful, pair.safe, self._unpaired[place])


def encode_pairs(tokenizer: Any, pairing: Pairing, max_length: int) -> tuple[list[PairedExample], list[Example]]:
    """The pairs and the unpaired rows, tokenised; raises as `encode_rows`."""
    harmful = encode_rows(tokenizer, [pair.harmful for pair in pairing.pairs], max_length)
    safe = encode_rows(tokenizer, [pair.safe for pair in pairing.pairs], max_length)
    pairs = [PairedExample(masked_by(bad, good), masked_by(good, bad)) for bad, good in zip(harmful, safe, strict=True)]
    return pairs, encode_rows(tokenizer, pairing.unpaired, max_length)


class PairCollator:
    """Makes batches of pairs and the unpaired rows drawn with them."""

    def __init__(self, pad_id: int) -> None:
        self._collate = Collator(pad_id)

    def __call__(self, examples: Sequence[PairedExample]) -> dict[str, dict[str, Tensor]]:
        """{"harmful": batch, "safe": batch} of B pairs; the unpaired rows follow the B safe ones.

        A batch is {input_ids, attention_mask, labels}, each (rows, T), right padded to its own longest row.
        """
        safe = [example.safe for example in examples]
        safe += [example.unpaired for example in examples if example.unpaired is not None]
        return {"harmful": self._collate([example.harmful for example in examples]), "safe": self._collate(safe)}
