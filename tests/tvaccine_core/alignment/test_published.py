import pytest
import torch

from tvaccine_core.alignment.published import PublishedScheme
from tvaccine_core.alignment.two_pass import TwoPassScheme


@pytest.fixture
def published():
    made = []

    def make(here, rho=0.5, attention="eager"):
        made.append(PublishedScheme(here.model, here.layers, rho, attention))
        return made[-1]

    yield make
    for scheme in made:
        scheme.close()


def test_same_gradients_where_it_has_any(setting, batch, published):
    here = setting(dtype=torch.float32)
    plain, expected = here.step(TwoPassScheme(here.model, here.layers, 0.5), batch(), here.window((1, 3)))
    report, gradients = here.step(published(here), batch(), here.window((1, 3)))
    for name, value in plain.values().items():
        assert report.values()[name] == pytest.approx(value, rel=1e-4)
    # Below the lowest drawn layer, re-entrant checkpointing cuts the adapters off.
    assert expected.keys() - gradients.keys() == {name for name in expected if ".layers.0." in name}
    assert all(torch.allclose(gradients[name], expected[name], atol=1e-4) for name in gradients)


def test_equals_ours_without_adapters_below(setting, batch, published, efficient):
    here = setting(dtype=torch.float32)
    _, gradients = here.step(published(here), batch(), here.window((1, 3)))
    scheme = efficient(setting(dtype=torch.float32))
    twin = setting(dtype=torch.float32)
    scheme = efficient(twin)
    _, ours = twin.step(scheme, batch(), twin.window((1, 3), "attention", mlp_below=False))
    assert ours.keys() == gradients.keys()
    assert all(torch.allclose(ours[name], gradients[name], atol=1e-4) for name in ours)


def test_probe_and_kernel(setting, batch, published):
    here = setting(dtype=torch.float32)
    expected = TwoPassScheme(here.model, here.layers, 0.5).probe(batch(), 4)
    scheme = published(here)
    assert here.model.config._attn_implementation == "eager"
    assert scheme.probe(batch(), 4) == pytest.approx(expected, rel=1e-4)
    assert here.gradients() == {}
    here.window((2,), "layer")
    assert scheme.probe(batch(), 4) == pytest.approx(expected, rel=1e-4)
    scheme.close()
    assert here.model.config._attn_implementation == "sdpa"
