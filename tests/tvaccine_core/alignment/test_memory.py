"""Recomputing layers: fewer bytes stored, the same gradients."""

import logging

import pytest
import torch

from tvaccine_core.alignment.efficient import EfficientScheme
from tvaccine_core.alignment.memory import Recompute

LAYERS = 6


def stored_bytes(here, scheme, inputs, window):
    """Bytes of all tensors that a step's graphs keep (what a recomputed layer keeps inside is not seen)."""
    seen = {}

    def pack(tensor):
        seen[id(tensor)] = tensor.numel() * tensor.element_size()
        kept.append(tensor)
        return tensor

    kept = []
    scheme.open_window(window)
    here.model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scheme.step(inputs, torch.Tensor.backward)
    return sum(seen.values()), here.gradients()


@pytest.mark.parametrize(("scope", "mlp_below"), [("attention", True), ("layer", True)])
def test_recomputing_more_stores_less_and_changes_no_gradient(setting, batch, efficient, scope, mlp_below):
    here = setting(layers=LAYERS)
    scheme = efficient(here)
    window = here.window((1, 4), scope, mlp_below)
    before, expected = stored_bytes(here, scheme, batch(), window)
    for layers in ({3}, {2, 3}, {0, 2, 3}):
        scheme._plan = lambda batch, layers=layers: Recompute(frozenset(layers - {0}), frozenset(layers))
        stored, gradients = stored_bytes(here, scheme, batch(), window)
        assert stored < before or (layers == {0, 2, 3} and scope == "layer")  # layer 0 keeps nothing there
        assert all(torch.equal(gradients[name], expected[name]) for name in expected)
        before = stored


def test_smaller_budgets_recompute_more(setting, batch, efficient):
    here = setting(layers=LAYERS, dtype=torch.float32)
    inputs = batch(rows=4, length=32)
    window = here.window((0, 3))
    fixed = efficient(here, budget=1.0)._planner._fixed
    counts, results = [], []
    for budget in (1e9, fixed + 2.2e6, fixed + 1.6e6, fixed + 1e6, fixed):
        scheme = EfficientScheme(here.model, here.layers, 0.5, budget)
        plans = []
        original = scheme._planner.plan
        scheme._planner.plan = lambda *args, p=plans, original=original: p.append(original(*args)) or p[-1]
        results.append(here.step(scheme, inputs, window)[1])
        scheme.close()
        counts.append((len(plans[0].first), len(plans[0].second)))
    assert counts[0] == (0, 0)
    assert counts == sorted(counts)
    assert counts[-1] == (3, 3)  # all but the drawn layers and the last
    assert len(set(counts)) >= 3
    assert all(first <= second for first, second in counts)
    for gradients in results[1:]:
        assert all(torch.equal(gradients[name], results[0][name]) for name in gradients)


def test_an_impossible_budget_is_reported(setting, batch, efficient, caplog):
    here = setting(dtype=torch.float32)
    with caplog.at_level(logging.WARNING):
        here.step(efficient(here, budget=1.0), batch(), here.window((0,)))
    assert "memory budget" in caplog.text
    assert "smaller batch" in caplog.text
