"""The probe looks and changes nothing, whichever scheme makes it."""

import pytest
import torch

from tvaccine_core.alignment.two_pass import TwoPassScheme


@pytest.mark.parametrize("kind", ["efficient", "folded", "two_pass"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_every_weight_stays_the_same_to_the_bit(setting, batch, efficient, kind, dropout):
    from tvaccine_core.alignment.efficient import EfficientScheme

    here = setting(dropout=dropout)
    before = {name: p.detach().clone() for name, p in here.model.named_parameters()}
    if kind == "two_pass":
        scheme = TwoPassScheme(here.model, here.layers, 0.5)
    else:
        scheme = EfficientScheme(here.model, here.layers, 0.5, fold_frozen=kind == "folded")
    norms = scheme.probe(batch(), 2)
    scheme.close()
    assert len(norms) == len(here.layers)
    assert min(norms) > 0
    assert here.gradients() == {}
    assert all(parameter.requires_grad == (".lora_" in name) for name, parameter in here.model.named_parameters())
    assert all(torch.equal(before[name], p) for name, p in here.model.named_parameters())


def test_a_window_with_frozen_and_folded_adapters_changes_no_norm(setting, batch):
    from tvaccine_core.alignment.efficient import EfficientScheme

    here = setting()
    expected = TwoPassScheme(here.model, here.layers, 0.5).probe(batch(), 8)
    scheme = EfficientScheme(here.model, here.layers, 0.5, fold_frozen=True)
    scheme.open_window(here.window((1,), "layer"))
    assert scheme.probe(batch(), 8) == pytest.approx(expected, abs=1e-12)
    trainable = {id(p) for p in scheme.window.trainable}
    scheme.close()
    assert all(p.requires_grad == (id(p) in trainable) for p in here.model.parameters())
