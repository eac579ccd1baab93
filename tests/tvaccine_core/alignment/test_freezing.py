import pytest

from tvaccine_core.alignment.freezing import find_adapters
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.layers import find_layers


def trained(here):
    """(layer, "attention" or "other") pairs whose adapters are on."""
    return {
        (index, part)
        for index, layer in enumerate(here.adapters)
        for part in ("attention", "other")
        if all(parameter.requires_grad for parameter in getattr(layer, part))
    }


@pytest.mark.parametrize(
    ("scope", "mlp_below", "expected_other", "lowest"),
    [("attention", True, {0, 1, 2, 3}, 0), ("attention", False, {1, 2, 3}, 1), ("layer", True, {1, 3}, 1)],
)
def test_what_trains(setting, scope, mlp_below, expected_other, lowest):
    here = setting()
    window = here.window((1, 3), scope, mlp_below)
    assert {index for index, part in trained(here) if part == "attention"} == {1, 3}
    assert {index for index, part in trained(here) if part == "other"} == expected_other
    assert window.lowest_trainable == lowest
    assert {id(p) for p in window.trainable} == {id(p) for p in here.model.parameters() if p.requires_grad}


@pytest.mark.parametrize("method", ["vaccine", "sft"])
def test_other_methods_freeze_nothing(setting, method):
    here = setting()
    window = here.window(range(4) if method == "vaccine" else (), method=method)
    assert len(trained(here)) == 8
    assert window.lowest_trainable == 0


def test_freezing_drops_gradients_and_release_undoes_it(setting, batch):
    from tvaccine_core.alignment.two_pass import TwoPassScheme

    here = setting()
    here.step(TwoPassScheme(here.model, here.layers, 0.5), batch(), here.window(range(4)))
    here.window((2,), "layer")
    assert all(".layers.2." in name for name in here.gradients())
    here.release()
    assert len(trained(here)) == 8


def test_adapters_outside_layers_are_refused(setting):
    here = setting()
    here.model.get_output_embeddings().weight.requires_grad_(True)
    with pytest.raises(InvalidRequest, match="outside"):
        find_adapters(here.model, find_layers(here.model))
    here.model.requires_grad_(False)
    with pytest.raises(InvalidRequest, match="no trainable adapter"):
        find_adapters(here.model, find_layers(here.model))
