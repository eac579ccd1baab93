"""Recomputing layers: fewer bytes alive at the peak of a step, whatever is kept and wherever."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tvaccine_core.alignment.memory import Recompute

LAYERS = 6
PLANS = (set(), {3}, {2, 3}, {0, 2, 3})


def storages(values):
    return [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make inside the with block, until they are freed."""

    def __init__(self):
        super().__init__()
        self.sizes = {}
        self.live = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {storage.data_ptr() for storage in storages((args, kwargs))}  # weights and what is written in place
        made = func(*args, **(kwargs or {}))
        for storage in storages(made):
            if storage.data_ptr() not in given and storage.data_ptr() not in self.sizes and storage.nbytes():
                self._add(storage)
        return made

    def _add(self, storage):
        self.sizes[storage.data_ptr()] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, storage.data_ptr())

    def _drop(self, place):
        self.live -= self.sizes.pop(place)


def test_bytes_live_as_long_as_a_view_of_them_does():
    with LiveBytes() as memory:
        numbers = torch.zeros(1000)
        part = numbers[:10]
        numbers += 1
        del numbers
        assert (memory.live, memory.peak) == (4000, 4000)
        total = part.sum()
        del part
        assert (memory.live, memory.peak) == (4, 4004)
        del total
    assert memory.live == 0


@pytest.mark.parametrize(("rows", "length"), [(3, 18), (4, 128)])
@pytest.mark.parametrize("scope", ["attention", "layer"])
def test_the_peak_of_a_step_falls_with_every_recomputed_layer(setting, batch, efficient, scope, rows, length):
    """Of the two passes together, both backwards included; what an operation uses inside itself is not seen.

    In the scope "layer" nothing below the lowest drawn layer trains: layer 0 stores nothing to begin with.
    """
    here = setting(layers=LAYERS)
    scheme = efficient(here)
    window = here.window((1, 4), scope)
    peaks, results = [], []
    for layers in PLANS:
        scheme._plan = lambda batch, layers=layers: Recompute(frozenset(layers - {0}), frozenset(layers))
        scheme.open_window(window)
        here.model.zero_grad()
        inputs = batch(rows=rows, length=length)
        with LiveBytes() as memory:
            scheme.step(inputs, torch.Tensor.backward)
        # Nothing outlives the step but the gradients.
        made = [parameter.grad for parameter in here.model.parameters() if parameter.grad is not None]
        assert memory.live == sum(storage.nbytes() for storage in storages(made))
        peaks.append(memory.peak)
        results.append(here.gradients())
    none, one, two, three = peaks
    assert none > one > two >= three
    assert (two > three) == (scope == "attention")
    for gradients in results[1:]:
        assert gradients.keys() == results[0].keys()
        assert all(torch.equal(gradients[name], results[0][name]) for name in gradients)
