"""The efficient step against the plain two-pass one, in float64: the same numbers, less work."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tvaccine_core.alignment.efficient import EfficientScheme
from tvaccine_core.alignment.two_pass import TwoPassScheme

FAMILIES = ["llama", "qwen2", "gemma2", "opt"]


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("selected", [(0, 2), (1, 3), (3,), (0, 1, 2, 3)], ids=str)
@pytest.mark.parametrize(("scope", "mlp_below"), [("attention", True), ("attention", False), ("layer", True)])
def test_equals_two_passes(setting, batch, efficient, family, selected, scope, mlp_below):
    here = setting(family)
    window = here.window(selected, scope, mlp_below)
    plain, expected = here.step(TwoPassScheme(here.model, here.layers, 0.5), batch(), window)
    report, gradients = here.step(efficient(here), batch(), window)
    assert largest_difference(gradients, expected) < 1e-12
    for name, value in plain.values().items():
        assert report.values()[name] == pytest.approx(value, abs=1e-12)
    assert torch.allclose(report.eps, plain.eps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_probe_equals_two_passes_however_rows_are_split(setting, batch, efficient, family):
    here = setting(family)
    expected = TwoPassScheme(here.model, here.layers, 0.5).probe(batch(), 8)
    scheme = efficient(here)
    for rows in (1, 2, 8):
        assert scheme.probe(batch(), rows) == pytest.approx(expected, abs=1e-12)


def test_plain_training_equals_two_passes(setting, batch, efficient):
    here = setting()
    window = here.window((), method="sft")
    _, expected = here.step(TwoPassScheme(here.model, here.layers, 0.0), batch(), window)
    report, gradients = here.step(efficient(here, rho=0.0), batch(), window)
    assert largest_difference(gradients, expected) < 1e-12
    assert report.values()["loss"] == report.values()["loss_perturbed"]


def test_left_padding_is_respected(setting, batch, efficient):
    here = setting()
    inputs = {name: tensor.flip(1) for name, tensor in batch().items()}
    window = here.window((1, 2))
    _, expected = here.step(TwoPassScheme(here.model, here.layers, 0.5), inputs, window)
    _, gradients = here.step(efficient(here), inputs, window)
    assert largest_difference(gradients, expected) < 1e-12


def test_float32_agrees_to_rounding(setting, batch, efficient):
    here = setting(dtype=torch.float32)
    window = here.window((1, 3))
    _, expected = here.step(TwoPassScheme(here.model, here.layers, 0.5), batch(), window)
    _, gradients = here.step(efficient(here), batch(), window)
    assert largest_difference(gradients, expected) < 1e-5


def test_bfloat16_points_the_same_way(setting, batch, efficient):
    exact, rounded = setting(dtype=torch.float32), setting(dtype=torch.bfloat16)
    reports, directions = [], []
    for here in (exact, rounded):
        report, gradients = here.step(efficient(here), batch(), here.window((1, 3)))
        reports.append(report.values())
        directions.append(torch.cat([gradients[name].float().flatten() for name in sorted(gradients)]))
    assert torch.cosine_similarity(directions[0], directions[1], dim=0) > 0.98
    assert reports[1]["eps_norm"] == pytest.approx(0.5, rel=0.02)
    assert reports[1]["eps_norm_effective"] != reports[1]["eps_norm"]


def test_no_gradient_is_touched_before_the_training_backward(setting, batch, efficient):
    here = setting()
    scheme = efficient(here)
    scheme.open_window(here.window((1, 3)))
    seen = []

    def backward(loss):
        seen.append(here.gradients())
        loss.backward()

    scheme.probe(batch(), 2)
    assert here.gradients() == {}
    scheme.step(batch(), backward)
    assert seen == [{}]
    assert here.gradients() != {}


def test_gradients_add_up_over_micro_batches(setting, batch, efficient):
    here = setting()
    scheme, window = efficient(here), here.window((0, 2))
    _, first = here.step(scheme, batch(seed=1), window)
    _, second = here.step(scheme, batch(seed=2), window)
    here.model.zero_grad()
    scheme.step(batch(seed=1), torch.Tensor.backward)
    scheme.step(batch(seed=2), torch.Tensor.backward)
    both = {name: first[name] + second[name] for name in first}
    assert largest_difference(here.gradients(), both) < 1e-12


def test_same_dropout_masks_in_both_passes(setting, batch, efficient):
    for family in ("llama", "opt"):
        here = setting(family, dropout=0.3)
        scheme = efficient(here, rho=0.0)
        before = torch.get_rng_state()
        report, _ = here.step(scheme, batch(), here.window((1, 3)))
        values = report.values()
        assert values["loss"] == pytest.approx(values["loss_perturbed"], abs=1e-14)
        after = torch.get_rng_state()
        assert not torch.equal(before, after)
        again, _ = here.step(scheme, batch(), here.window((1, 3)))
        assert again.values()["loss"] != values["loss"]  # the next step has masks of its own
        torch.set_rng_state(before)
        repeated, _ = here.step(scheme, batch(), here.window((1, 3)))
        assert repeated.values() == values


def test_close_gives_the_model_back(setting, batch):
    here = setting()
    inputs = {name: batch()[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = here.model(**inputs).logits
    scheme = EfficientScheme(here.model, here.layers, 0.5)
    here.step(scheme, batch(), here.window((1,)))
    with torch.no_grad():
        assert torch.allclose(here.model(**inputs).logits, expected, atol=1e-12)  # usable between steps
    scheme.close()
    assert not [module for module in here.model.modules() if "forward" in vars(module)]


class FlopCounter(TorchDispatchMode):
    """Counts as torch's FlopCounterMode does, whose module hooks cannot stand `autograd.grad`."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        # The registry knows no products that are added in place.
        packet = torch.ops.aten.addmm if func._overloadpacket is torch.ops.aten.addmm_ else func._overloadpacket
        if packet in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        return out


def flops(here, scheme, inputs, window):
    scheme.open_window(window)
    here.model.zero_grad()
    with FlopCounter() as counter:
        scheme.step(inputs, torch.Tensor.backward)
    return counter.total


def test_costs_less_than_two_passes(setting, batch, efficient):
    here = setting(layers=12, hidden=64, dtype=torch.float32)
    inputs = batch(rows=2, length=16)
    inputs["labels"] = inputs["input_ids"].clone()  # no gain from unsupervised positions
    plain_scheme = TwoPassScheme(here.model, here.layers, 0.5)
    one_pass = flops(here, plain_scheme, inputs, here.window((), method="sft"))
    scheme = efficient(here)
    for selected, limit in (((0, 3, 7), 1.90), ((4, 6, 11), 1.44), ((9,), 0.86)):
        window = here.window(selected, "layer")
        naive = flops(here, plain_scheme, inputs, window)
        ours = flops(here, scheme, inputs, window)
        assert ours < naive
        assert ours / one_pass < limit


def forward_flops(here, inputs, module):
    """Of one forward of a module inside a forward of the model."""
    counts = []

    def count(*args, **kwargs):
        with FlopCounter() as counter:
            answer = forward(*args, **kwargs)
        counts.append(counter.total)
        return answer

    forward = module.forward
    module.forward = count
    with torch.no_grad():
        here.model(input_ids=inputs["input_ids"], use_cache=False)
    del module.forward
    return counts[0]


@pytest.mark.parametrize(("scope", "mlp_below"), [("attention", True), ("attention", False), ("layer", True)])
def test_wherever_layers_are_drawn_no_forward_below_them_is_paid_twice(setting, batch, efficient, scope, mlp_below):
    """One, two or three layers with the lowest at every height, also where the MLP adapters below it train.

    The lowest layer's own attention is computed once as well, so that even with layer 0 drawn less is paid.
    """
    here = setting(layers=6, dtype=torch.float32)
    inputs = batch(rows=2, length=64)  # what the last column saves, which predicts nothing, is then small
    inputs["labels"] = inputs["input_ids"].clone()
    inputs["attention_mask"].fill_(1)
    last = len(here.layers) - 1
    layer, attention = (forward_flops(here, inputs, part[0]) for part in (here.layers.layers, here.layers.attention))
    plain, scheme = TwoPassScheme(here.model, here.layers, 0.5), efficient(here)
    for lowest in range(last + 1):
        drawn = {(lowest,), tuple(sorted({lowest, last})), tuple(sorted({lowest, (lowest + last) // 2, last}))}
        for selected in drawn:
            window = here.window(selected, scope, mlp_below)
            naive, ours = flops(here, plain, inputs, window), flops(here, scheme, inputs, window)
            assert ours < naive, selected
            assert naive - ours >= lowest * layer + attention, selected


def test_with_the_lowest_layer_drawn_one_attention_forward_is_saved(setting, batch, efficient):
    """Then nothing lies below; what is left of the savings is that layer 0's attention is computed once."""
    here = setting(layers=12, hidden=64, dtype=torch.float32)
    inputs = batch(rows=2, length=16)
    inputs["labels"] = inputs["input_ids"].clone()
    inputs["attention_mask"].fill_(1)
    window = here.window((0, 5), "layer")
    naive = flops(here, TwoPassScheme(here.model, here.layers, 0.5), inputs, window)
    attention = forward_flops(here, inputs, here.layers.attention[0])
    scheme = efficient(here)
    saved = naive - flops(here, scheme, inputs, window)
    assert saved >= attention
    # Beyond it only the last column, which predicts nothing, of the last layer's MLP and the head: one of 16.
    assert saved - attention < 0.01 * naive


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputing_any_frozen_layers_changes_no_gradient(setting, batch, efficient, family):
    """Every subset of the layers that are not drawn, in both passes."""
    from itertools import chain, combinations

    from tvaccine_core.alignment.memory import Recompute

    here = setting(family, layers=5)
    scheme, window = efficient(here), here.window((1, 3))
    _, expected = here.step(TwoPassScheme(here.model, here.layers, 0.5), batch(), window)
    free = (0, 2)  # the last layer is never recomputed
    for layers in chain.from_iterable(combinations(free, size) for size in range(len(free) + 1)):
        chosen = Recompute(frozenset(set(layers) - {0}), frozenset(layers))
        scheme._plan = lambda batch, chosen=chosen: chosen
        _, gradients = here.step(scheme, batch(), window)
        assert largest_difference(gradients, expected) < 1e-12
