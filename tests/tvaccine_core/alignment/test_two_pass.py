"""The reference implementation against what the method demands of any implementation."""

import pytest
import torch

from tvaccine_core.alignment.two_pass import TwoPassScheme, changed_attention

ROUNDING = 1e-12


def plain_gradients(here, inputs):
    """Gradients of ordinary supervised training with the present freezing."""
    here.model.zero_grad()
    logits = here.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    targets = inputs["labels"][:, 1:].reshape(-1)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(targets.numel(), -1), targets)
    loss.backward()
    return here.gradients()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("selected", [(0,), (1, 3), (0, 1, 2, 3)], ids=str)
def test_joint_norm_of_the_perturbation_is_rho(setting, batch, dtype, selected):
    here = setting(dtype=dtype)
    report, _ = here.step(TwoPassScheme(here.model, here.layers, 0.7), batch(), here.window(selected))
    assert report.values()["eps_norm"] == pytest.approx(0.7, rel=1e-5)
    report, _ = here.step(TwoPassScheme(here.model, here.layers, 0.0), batch(), here.window(selected))
    assert report.values()["eps_norm"] == 0.0


@pytest.mark.parametrize("scope", ["attention", "layer"])
def test_rho_zero_is_plain_training_with_the_same_freezing(setting, batch, scope):
    here = setting()
    window = here.window((1, 2), scope)
    _, gradients = here.step(TwoPassScheme(here.model, here.layers, 0.0), batch(), window)
    expected = plain_gradients(here, batch())
    assert gradients.keys() == expected.keys()
    assert all(torch.allclose(gradients[n], expected[n], rtol=0, atol=ROUNDING) for n in expected)


def test_all_layers_without_freezing_is_vaccine(setting, batch):
    here = setting()
    every = range(len(here.layers))
    scheme = TwoPassScheme(here.model, here.layers, 0.5)
    _, targeted = here.step(scheme, batch(), here.window(every, "layer"))
    _, vaccine = here.step(scheme, batch(), here.window(every, method="vaccine"))
    assert targeted.keys() == vaccine.keys()
    assert all(torch.equal(targeted[n], vaccine[n]) for n in vaccine)


def test_perturbation_is_zero_where_the_loss_does_not_look(setting, batch):
    here = setting()
    inputs = batch()
    _, gradients = TwoPassScheme(here.model, here.layers, 0.5).attention_gradients(inputs, range(4))
    supervised = inputs["labels"] != -100
    predicting = torch.zeros_like(supervised)
    predicting[:, :-1] = supervised[:, 1:]
    for gradient in gradients:
        for row in range(len(predicting)):
            last = int(predicting[row].nonzero().max())
            assert torch.all(gradient[row, last + 1 :] == 0)  # padding and what follows the answer
    assert torch.all(gradients[-1][~predicting] == 0)
    assert torch.all(gradients[-1][predicting].norm(dim=-1) > 0)


def test_loss_rises_by_rho_times_the_norm_to_first_order(setting, batch):
    here = setting()
    errors = []
    for rho in (1.0, 1e-1, 1e-2):
        report, _ = here.step(TwoPassScheme(here.model, here.layers, rho), batch(), here.window((0, 2)))
        values = report.values()
        rise = values["loss_perturbed"] - values["loss"]
        errors.append(abs(rise / (rho * values["gradient_norm"]) - 1))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 5e-3


def test_scaling_the_loss_does_not_change_the_perturbation(setting, batch):
    from tvaccine_core.alignment.perturbation import frobenius_norms, joint_norm, scale_to_perturbation

    here = setting()
    _, gradients = TwoPassScheme(here.model, here.layers, 0.5).attention_gradients(batch(), range(4))
    scaled = [gradient * 1000 for gradient in gradients]
    for tensors in (gradients, scaled):
        scale_to_perturbation(tensors, 0.5, joint_norm(frobenius_norms(tensors)))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(gradients, scaled, strict=True))


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])
def test_module_hooks_see_the_same_gradients(setting, batch, family):
    here = setting(family)
    _, expected = TwoPassScheme(here.model, here.layers, 0.5).attention_gradients(batch(), range(4))
    caught = {}
    handles = [
        module.register_full_backward_hook(
            lambda module, inputs, outputs, index=index: caught.__setitem__(index, outputs[0])
        )
        for index, module in enumerate(here.layers.attention)
    ]
    plain_gradients(here, batch())
    for handle in handles:
        handle.remove()
    assert all(torch.allclose(caught[i], g, rtol=0, atol=ROUNDING) for i, g in enumerate(expected))


def test_perturbed_tensor_on_gemma2_is_before_the_norm(setting, batch):
    here = setting("gemma2")
    inputs = {name: batch()[name] for name in ("input_ids", "attention_mask")}
    seen = []
    norm = here.layers.layers[1].post_attention_layernorm
    handle = norm.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    with torch.no_grad():
        here.model(**inputs)
        with changed_attention(here.layers.attention, {1: lambda output: output + 1.0}):
            here.model(**inputs)
    handle.remove()
    assert torch.allclose(seen[1] - seen[0], torch.ones_like(seen[0]))


def test_frozen_adapters_and_their_moments_stay_as_they_are(setting, batch):
    here = setting()
    parameters = {n: p for n, p in here.model.named_parameters() if ".lora_" in n}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2, weight_decay=0.1)
    scheme = TwoPassScheme(here.model, here.layers, 0.5)
    here.step(scheme, batch(), here.window(range(4)))
    optimizer.step()
    weights = here.weights()
    state = {n: {k: v.clone() for k, v in optimizer.state[p].items()} for n, p in parameters.items()}
    window = here.window((1,), "layer")
    here.step(scheme, batch(seed=1), window)
    optimizer.step()
    trained = {id(parameter) for parameter in window.trainable}
    for name, parameter in parameters.items():
        unchanged = torch.equal(parameter, weights[name])
        same_state = all(torch.equal(value, state[name][k]) for k, value in optimizer.state[parameter].items())
        assert unchanged == same_state == (id(parameter) not in trained)
    assert {n for n, p in parameters.items() if id(p) in trained} == {n for n in parameters if ".layers.1." in n}


def test_probe_changes_nothing(setting, batch):
    here = setting()
    weights = here.weights()
    norms = TwoPassScheme(here.model, here.layers, 0.5).probe(batch(), 4)
    assert len(norms) == 4
    assert here.gradients() == {}
    assert all(torch.equal(weights[n], w) for n, w in here.weights().items())


def test_same_dropout_masks_in_both_passes(setting, batch):
    here = setting(dropout=0.3)
    report, _ = here.step(TwoPassScheme(here.model, here.layers, 0.0), batch(), here.window((1,)))
    assert report.values()["loss"] == report.values()["loss_perturbed"]
