"""Vaccine (arXiv 2402.01109) by our step: every layer perturbed, nothing frozen."""

import pytest
import torch

from tvaccine_core.alignment.two_pass import TwoPassScheme

LAYERS = 4


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture
def vaccine(setting, efficient):
    here = setting(layers=LAYERS)
    return here, here.window(range(LAYERS), method="vaccine")


@pytest.mark.parametrize("rho", [0.0, 0.7, 3.0])
def test_joint_norm_over_all_layers_is_rho(vaccine, batch, efficient, rho):
    here, window = vaccine
    report, _ = here.step(efficient(here, rho=rho), batch(), window)
    assert report.values()["eps_norm"] == pytest.approx(rho, rel=1e-5)
    assert report.values()["eps_norm_effective"] == pytest.approx(rho, rel=1e-5)
    assert report.eps.shape == (LAYERS,)


def test_rho_zero_is_plain_training(vaccine, batch, efficient):
    here, window = vaccine
    _, gradients = here.step(efficient(here, rho=0.0), batch(), window)
    here.model.zero_grad()
    inputs = batch()
    logits = here.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    targets = inputs["labels"][:, 1:].reshape(-1)
    torch.nn.functional.cross_entropy(logits[:, :-1].reshape(targets.numel(), -1), targets).backward()
    assert largest_difference(gradients, here.gradients()) < 1e-12


def test_is_t_vaccine_with_every_layer_drawn(vaccine, batch, efficient):
    here, _ = vaccine
    scheme = efficient(here)
    _, targeted = here.step(scheme, batch(), here.window(range(LAYERS), "layer"))
    _, everywhere = here.step(scheme, batch(), here.window(range(LAYERS), method="vaccine"))
    assert largest_difference(targeted, everywhere) == 0.0


def test_nothing_is_frozen(vaccine, batch, efficient):
    here, window = vaccine
    _, gradients = here.step(efficient(here), batch(), window)
    assert gradients.keys() == here.weights().keys()


def test_the_first_layers_take_what_the_gradient_gives_them(vaccine, batch, efficient):
    """One norm for all layers: each layer's share of rho is its share of the gradient."""
    here, window = vaccine
    report, _ = here.step(efficient(here, rho=0.7), batch(), window)
    assert torch.allclose(report.eps / 0.7, report.gradients / report.gradients.norm(), rtol=1e-5)


def test_padding_is_not_perturbed(vaccine, batch):
    here, _ = vaccine
    inputs = batch()
    _, gradients = TwoPassScheme(here.model, here.layers, 0.5).attention_gradients(inputs, range(LAYERS))
    padding = inputs["attention_mask"] == 0
    assert padding.any()
    assert all(torch.all(gradient[padding] == 0) for gradient in gradients)


def test_the_loss_rises_by_rho_times_the_norm_to_first_order(vaccine, batch, efficient):
    here, window = vaccine
    errors = []
    for rho in (1e-1, 1e-2, 1e-3):
        values = here.step(efficient(here, rho=rho), batch(), window)[0].values()
        rise = values["loss_perturbed"] - values["loss"]
        errors.append(abs(rise / (rho * values["gradient_norm"]) - 1))
    assert errors[0] > errors[1]
    assert errors[1] < 0.05
    assert errors[2] < 0.01


def test_a_constant_factor_of_the_loss_changes_no_perturbation(vaccine, batch, efficient, monkeypatch):
    """Ten times the loss is ten times the gradient, and the same perturbation but for the stabiliser."""
    from tvaccine_core.alignment import efficient as module

    here, window = vaccine
    scheme = efficient(here)
    plain, _ = here.step(scheme, batch(), window)
    original = module.EfficientScheme._loss

    def tenfold(self, current, part, count, then=None):
        loss = 10 * original(self, current, part, count)
        if then is not None:
            then(loss)
        return loss

    monkeypatch.setattr(module.EfficientScheme, "_loss", tenfold)
    scaled, _ = here.step(scheme, batch(), window)
    assert scaled.values()["gradient_norm"] == pytest.approx(10 * plain.values()["gradient_norm"], rel=1e-6)
    assert torch.allclose(scaled.eps, plain.eps, rtol=0, atol=1e-6)


def hooked_vaccine(here, inputs, rho):
    """Vaccine written with module hooks alone: the loss before and under the perturbation, and the gradients."""
    modules = here.layers.attention
    targets = inputs["labels"][:, 1:].reshape(-1)
    caught = {}

    def backward():
        logits = here.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(targets.numel(), -1), targets)
        here.model.zero_grad()
        loss.backward()
        return float(loss.detach())

    def catch(module, grad_inputs, grad_outputs):
        caught[module] = grad_outputs[0].clone()

    def shift(module, args, output):
        shifted = rho * caught[module] / (norm + 1e-7)
        return (output[0] + shifted, *output[1:]) if isinstance(output, tuple) else output + shifted

    handles = [module.register_full_backward_hook(catch) for module in modules]
    losses = [backward()]
    for handle in handles:
        handle.remove()
    norm = torch.sqrt(sum((caught[module] ** 2).sum() for module in modules))
    handles = [module.register_forward_hook(shift) for module in modules]
    losses.append(backward())
    for handle in handles:
        handle.remove()
    return losses, here.gradients()


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "opt"])
@pytest.mark.parametrize("method", ["vaccine", "t_vaccine"])
@pytest.mark.parametrize("kind", ["efficient", "two_pass"])
def test_equals_vaccine_written_with_module_hooks(setting, batch, efficient, family, method, kind):
    here = setting(family, layers=LAYERS)
    losses, expected = hooked_vaccine(here, batch(), 0.7)
    assert expected.keys() == here.weights().keys()
    scheme = efficient(here, rho=0.7) if kind == "efficient" else TwoPassScheme(here.model, here.layers, 0.7)
    report, gradients = here.step(scheme, batch(), here.window(range(LAYERS), "layer", method=method))
    assert largest_difference(gradients, expected) < 1e-12
    values = report.values()
    assert [values["loss"], values["loss_perturbed"]] == pytest.approx(losses, abs=1e-12)
