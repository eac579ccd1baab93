"""Rows to token ids, with labels on the answers alone.

The conversation is rendered whole by the model's own chat template and tokenised once; a token is learned if
it lies inside an answer (see `answer_spans`). Where a token would lie across an answer's beginning, prompt
and answer are tokenised apart, as they are when the model is asked for the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tvaccine_core.data.answer_spans import FaultyRowError, RenderedRow, RowRenderer
from tvaccine_core.data.row_forms import Row, RowFault
from tvaccine_core.data.rows import raise_faults
from tvaccine_core.data.templates import ensure_template

IGNORED = -100
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenised row. labels: the token itself where it is learned, -100 elsewhere; same length as
    input_ids."""

    input_ids: list[int]
    labels: list[int]

    @property
    def supervised(self) -> int:
        """How many tokens are learned."""
        return sum(label != IGNORED for label in self.labels)


def encode_row(tokenizer: Any, row: Row, max_length: int) -> Example:
    """One row as an `Example` of at most `max_length` tokens; raises as `encode_rows`."""
    return encode_rows(tokenizer, [row], max_length)[0]


def encode_rows(tokenizer: Any, rows: Sequence[Row], max_length: int) -> list[Example]:
    """All rows, in order. Nothing is cut: an answer without its end would teach the model not to stop.

    Raises InvalidTrainingFile that names every row which is longer than `max_length` tokens ("row_too_long"),
    has no token to learn ("nothing_to_learn"), or that the model's chat template refuses or re-writes
    ("template_refused", "template_unstable").
    """
    ensure_template(tokenizer)
    renderer = RowRenderer(tokenizer)
    examples: list[Example] = []
    faults: list[RowFault] = []
    for start in range(0, len(rows), _BATCH):
        rendered = []
        for row in rows[start : start + _BATCH]:
            try:
                rendered.append(renderer.render(row))
            except FaultyRowError as error:
                faults.append(error.fault)
        for item, example in zip(rendered, _tokenise(tokenizer, rendered), strict=True):
            fault = _length_fault(item.row, example, max_length)
            if fault is not None:
                faults.append(fault)
            examples.append(example)
    if faults:
        raise_faults(sorted(faults, key=lambda fault: fault.line))
    return examples


class Collator:
    """Batches examples: right padded to the longest, attention mask from the lengths.

    The mask never asks which tokens are padding: many models pad with their end token, which answers hold
    too.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, examples: Sequence[Example | Mapping[str, list[int]]]) -> dict[str, Tensor]:
        """{input_ids, attention_mask, labels}, each int64 of shape (B, T)."""
        pairs = [(e.input_ids, e.labels) if isinstance(e, Example) else (e["input_ids"], e["labels"]) for e in examples]
        shape = len(pairs), max(len(ids) for ids, _ in pairs)
        batch = {
            "input_ids": torch.full(shape, self.pad_id),
            "attention_mask": torch.zeros(shape, dtype=torch.int64),
            "labels": torch.full(shape, IGNORED),
        }
        for place, (ids, labels) in enumerate(pairs):
            batch["input_ids"][place, : len(ids)] = torch.tensor(ids)
            batch["attention_mask"][place, : len(ids)] = 1
            batch["labels"][place, : len(labels)] = torch.tensor(labels)
        return batch


def _tokenise(tokenizer: Any, rendered: Sequence[RenderedRow]) -> list[Example]:
    if not rendered:
        return []
    if not tokenizer.is_fast:
        return [_tokenise_pieces(tokenizer, item) for item in rendered]
    texts = [item.text for item in rendered]
    coded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    return [
        _label(item, ids, offsets) or _tokenise_pieces(tokenizer, item)
        for item, ids, offsets in zip(rendered, coded["input_ids"], coded["offset_mapping"], strict=True)
    ]


def _label(item: RenderedRow, ids: list[int], offsets: list[tuple[int, int]]) -> Example | None:
    """The row with labels by offset, or None if a token lies across an edge of an answer."""
    labels = [IGNORED] * len(ids)
    for start, end in item.spans:
        for place, (first, last) in enumerate(offsets):
            if start <= first < last <= end:
                labels[place] = ids[place]
            elif first < start < last or first < end < last:
                return None
    return Example(ids, labels)


def _tokenise_pieces(tokenizer: Any, item: RenderedRow) -> Example:
    """For tokenizers that cannot tell offsets: what is learned and what is not, tokenised one after the
    other."""
    ids: list[int] = []
    labels: list[int] = []
    cuts = [0, *(cut for span in item.spans for cut in span), len(item.text)]
    for number, (start, end) in enumerate(pairwise(cuts)):
        piece = tokenizer(item.text[start:end], add_special_tokens=False)["input_ids"] if end > start else []
        ids += piece
        labels += piece if number % 2 else [IGNORED] * len(piece)
    return Example(ids, labels)


def _length_fault(row: Row, example: Example, max_length: int) -> RowFault | None:
    length = len(example.input_ids)
    if length > max_length:
        message = (
            f"The row has {length} tokens and at most {max_length} are trained on; shorten it or raise max_length."
        )
        return RowFault(row.line, "messages", "row_too_long", message)
    # The first token of a row is predicted from nothing, so it does not count.
    if all(label == IGNORED for label in example.labels[1:]):
        message = "The row has no token to learn after the chat template was applied; give it a longer answer."
        return RowFault(row.line, "messages", "nothing_to_learn", message)
    return None
