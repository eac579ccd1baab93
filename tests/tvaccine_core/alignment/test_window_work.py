"""Work done once for the window between two draws: folded adapters, and lowest layers run for several batches."""

import pytest
import torch

from tvaccine_core.alignment.efficient import EfficientScheme
from tvaccine_core.alignment.folding import FoldedAdapters
from tvaccine_core.alignment.lora_linear import LoraKernels
from tvaccine_core.alignment.two_pass import TwoPassScheme

FAMILIES = ["llama", "qwen2", "gemma2", "opt"]


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture
def folding():
    made = []

    def make(here, **kwargs):
        made.append(EfficientScheme(here.model, here.layers, 0.5, fold_frozen=True, **kwargs))
        return made[-1]

    yield make
    for scheme in made:
        scheme.close()


def base_weights(here):
    return {n: p.detach().clone() for n, p in here.model.named_parameters() if ".lora_" not in n}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scope", ["attention", "layer"])
def test_folding_changes_no_gradient(setting, batch, folding, family, scope):
    here = setting(family)
    before = base_weights(here)
    windows = [(0, 2), (1, 3), (3,)]
    expected = []
    for selected in windows:
        window = here.window(selected, scope)
        expected.append(here.step(TwoPassScheme(here.model, here.layers, 0.5), batch(), window))
    scheme = folding(here)
    for selected, (plain, gradients) in zip(windows, expected, strict=True):
        report, ours = here.step(scheme, batch(), here.window(selected, scope))
        assert largest_difference(ours, gradients) < 1e-12
        assert report.values()["loss_perturbed"] == pytest.approx(plain.values()["loss_perturbed"], abs=1e-12)
    assert any(not torch.equal(before[name], value) for name, value in base_weights(here).items())
    scheme.close()
    assert all(torch.equal(before[name], value) for name, value in base_weights(here).items())
    assert not [module for module in here.model.modules() if "forward" in vars(module)]


def test_only_frozen_adapters_are_folded(setting):
    here = setting()
    kernels = LoraKernels(here.model)
    folded = FoldedAdapters(kernels.modules)
    folded.fold(here.window((1, 2), "layer").trainable)
    outside = [n for n, m in here.model.named_modules() if m in kernels.modules and not {"1", "2"} & set(n.split("."))]
    assert len(folded) == len(outside) == len(kernels) // 2
    weights = [m.base_layer.weight for n, m in here.model.named_modules() if n in outside]
    assert folded.bytes == sum(weight.numel() * 8 for weight in weights)
    folded.fold(here.window(range(4)).trainable)
    assert len(folded) == folded.bytes == 0
    kernels.remove()


def test_low_precision_is_not_folded(setting):
    here = setting(dtype=torch.bfloat16)
    kernels = LoraKernels(here.model)
    folded = FoldedAdapters(kernels.modules)
    folded.fold(here.window((1,), "layer").trainable)
    assert len(folded) == 0
    kernels.remove()


def test_folding_survives_training_over_several_windows(setting, batch, folding):
    """Adapters that trained in one window are folded with their new values in the next."""
    results = []
    for fold in (False, True):
        here = setting()
        here.release()
        parameters = [p for p in here.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
        scheme = folding(here) if fold else TwoPassScheme(here.model, here.layers, 0.5)
        for number, selected in enumerate([(0, 1), (2, 3), (0, 3)]):
            for step in range(2):
                here.step(scheme, batch(seed=2 * number + step), here.window(selected, "layer"))
                optimizer.step()
        results.append(here.weights())
    assert largest_difference(*results) < 1e-9  # AdamW amplifies the rounding of small gradients


def layer_calls(here, act):
    """How often each layer's first norm runs."""
    counts = [0] * len(here.layers)

    def counter(index):
        def count(module, args):
            counts[index] += 1

        return count

    handles = [
        layer.input_layernorm.register_forward_pre_hook(counter(i)) for i, layer in enumerate(here.layers.layers)
    ]
    act()
    for handle in handles:
        handle.remove()
    return counts


@pytest.mark.parametrize(("scope", "mlp_below"), [("attention", False), ("layer", True)])
def test_looking_ahead_changes_no_gradient(setting, batch, efficient, scope, mlp_below):
    here = setting()
    batches = [batch(rows=2, length=12, seed=1), batch(rows=3, length=18, seed=2), batch(rows=1, length=15, seed=3)]
    window = here.window((2, 3), scope, mlp_below)
    plain = TwoPassScheme(here.model, here.layers, 0.5)
    expected = [here.step(plain, inputs, window)[1] for inputs in batches]
    scheme = efficient(here)
    scheme.open_window(window)
    assert layer_calls(here, lambda: scheme.look_ahead(batches)) == [1, 1, 0, 0]

    def steps():
        for inputs, gradients in zip(batches, expected, strict=True):
            here.model.zero_grad()
            scheme.step(inputs, torch.Tensor.backward)
            assert largest_difference(here.gradients(), gradients) < 1e-12

    assert layer_calls(here, steps)[:2] == [0, 0]


def test_other_batches_than_foreseen_are_computed_anew(setting, batch, efficient):
    here = setting()
    window = here.window((2,), "layer")
    _, expected = here.step(TwoPassScheme(here.model, here.layers, 0.5), batch(seed=5), window)
    scheme = efficient(here)
    scheme.open_window(window)
    scheme.look_ahead([batch(seed=1), batch(seed=2)])
    scheme.step(batch(seed=5), torch.Tensor.backward)
    here.model.zero_grad()
    scheme.step(batch(seed=5), torch.Tensor.backward)
    assert largest_difference(here.gradients(), expected) < 1e-12


@pytest.mark.parametrize("reason", ["dropout", "left padding", "lowest layer drawn", "one batch"])
def test_nothing_is_computed_ahead_where_it_would_be_wrong_or_useless(setting, batch, efficient, reason):
    here = setting(dropout=0.2 if reason == "dropout" else 0.0)
    batches = [batch(seed=1), batch(seed=2)]
    if reason == "left padding":
        batches[1] = {name: tensor.flip(1) for name, tensor in batches[1].items()}
    scheme = efficient(here)
    scheme.open_window(here.window((0,) if reason == "lowest layer drawn" else (2,), "layer"))
    upcoming = batches[:1] if reason == "one batch" else batches
    assert layer_calls(here, lambda: scheme.look_ahead(upcoming)) == [0, 0, 0, 0]


def test_perturbations_are_given_up_as_they_are_added(setting, batch, efficient, monkeypatch):
    """At the end of the second forward, when stored activations are at their peak, no perturbation is left."""
    from tvaccine_core.alignment import efficient as module

    here = setting()
    passes = []

    class Watched(module.TrainingPass):
        def __init__(self, *args):
            super().__init__(*args)
            passes.append(self)
            self.given = len(self.eps)

    monkeypatch.setattr(module, "TrainingPass", Watched)
    left = []
    scheme = efficient(here)
    scheme.open_window(here.window((0, 2, 3)))
    scheme.step(batch(), lambda loss: (left.append(len(passes[0].eps)), loss.backward()))
    assert (passes[0].given, left) == (3, [0])
