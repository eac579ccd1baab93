"""Keys and values of a batch of answers, in room that is set aside once.

A growing cache copies everything it holds at every token, and again whenever a row leaves. Here a token's keys and
values are written into their place, a row that leaves has its place taken by the batch's last one, and what all rows
have in common at their start is computed for one row and copied to the others.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

_PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)


class RowLayer(DynamicLayer):
    """One layer's keys and values, (rows, heads, capacity, d), of which `length` columns are filled.

    Layers with a sliding window keep everything too: the model's mask hides what lies outside the window.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__()
        self.rows = rows
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Set the room aside when the first states show the shapes."""
        self.keys = key_states.new_zeros(self.rows, key_states.shape[1], self.capacity, key_states.shape[3])
        self.values = value_states.new_zeros(self.rows, value_states.shape[1], self.capacity, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write new columns, (n, heads, t, d) for the first n rows; all filled columns of those rows."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, new = key_states.shape[0], slice(self.length, self.length + key_states.shape[2])
        self.keys[:rows, :, new] = key_states
        self.values[:rows, :, new] = value_states
        self.length = new.stop
        return self.keys[:rows, :, : self.length], self.values[:rows, :, : self.length]

    def get_seq_length(self) -> int:
        """Filled columns."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that the next update answers, and where they start."""
        return self.length + query_length, 0

    def spread(self) -> None:
        """Give every row what the first one holds."""
        for kept in (self.keys, self.values):
            kept[1:, :, : self.length] = kept[:1, :, : self.length]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Row i becomes the former row indices[i]; a row may only move to a lower place whose own row leaves."""
        for target, source in enumerate(indices.tolist()):
            if target != source:
                for kept in (self.keys, self.values):
                    kept[target, :, : self.length] = kept[source, :, : self.length]


def row_cache(model: Any, rows: int, capacity: int) -> Cache | None:
    """A cache for `rows` answers of at most `capacity` tokens, prompts included.

    None for a model that keeps more than plain keys and values: it has to make its own.
    """
    layers = DynamicCache(config=model.config).layers
    if not all(type(layer) in _PLAIN for layer in layers):
        return None
    return Cache(layers=[RowLayer(rows, capacity) for _ in layers])


def sliding_window(model: Any) -> float:
    """The shortest window of any layer, in tokens; infinite without one."""
    layers = DynamicCache(config=model.config).layers
    windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    return min(windows, default=float("inf"))


def common_start(prompts: list[list[int]]) -> int:
    """How many leading tokens all prompts share, with at least one token of each prompt left over."""
    shortest = min(len(prompt) for prompt in prompts) - 1
    same = (len({prompt[place] for prompt in prompts}) == 1 for place in range(shortest))
    return next((place for place, equal in enumerate(same) if not equal), shortest)


def closed_up(places: list[int]) -> list[int]:
    """The kept places (ascending) in an order that moves as few of them as can be: holes are filled from the end."""
    count = len(places)
    movers = [place for place in places if place >= count]
    staying = set(places)
    return [place if place in staying else movers.pop() for place in range(count)]
