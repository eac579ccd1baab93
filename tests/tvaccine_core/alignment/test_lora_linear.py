import pytest
import torch
from peft import LoraConfig

from tvaccine_core.alignment.lora_linear import LoraKernels
from tvaccine_core.models.adapters import USER, lora_targets, train_only


def outcome(here, inputs, adapters=True):
    here.model.zero_grad()
    hidden = here.model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
    here.model(inputs_embeds=hidden, attention_mask=inputs["attention_mask"]).logits.square().mean().backward()
    return hidden.grad, here.gradients() if adapters else {}


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt"])  # without and with biases
def test_equals_peft(setting, batch, family):
    here = setting(family)
    expected = outcome(here, batch())
    kernels = LoraKernels(here.model)
    assert len(kernels) == sum(hasattr(module, "lora_A") for module in here.model.modules())
    hidden, gradients = outcome(here, batch())
    assert torch.allclose(hidden, expected[0], rtol=0, atol=1e-13)
    assert gradients.keys() == expected[1].keys()
    assert all(torch.allclose(gradients[n], g, rtol=0, atol=1e-13) for n, g in expected[1].items())
    kernels.remove()
    assert not [module for module in here.model.modules() if "forward" in vars(module)]


def test_frozen_adapters_get_no_gradient_and_keep_no_input(setting, batch):
    here = setting()
    for layer in here.adapters:
        for parameter in layer.attention + layer.other:
            parameter.requires_grad_(False)
    expected, _ = outcome(here, batch(), adapters=False)
    kernels = LoraKernels(here.model)
    hidden, _ = outcome(here, batch(), adapters=False)
    assert torch.allclose(hidden, expected, rtol=0, atol=1e-13)
    assert here.gradients() == {}
    kernels.remove()


def test_only_plain_adapters_qualify(setting, batch):
    assert len(LoraKernels(setting(dropout=0.1).model)) == 0
    here = setting()
    here.model.base_model.disable_adapter_layers()
    assert len(LoraKernels(here.model)) == 0


def with_frozen_vaccine(here):
    """The setting's adapter frozen, and a second one of another rank and scale that trains beside it."""
    targets = lora_targets(here.model.get_base_model())
    here.model.add_adapter(USER, LoraConfig(r=2, lora_alpha=6, target_modules=targets))
    for name, parameter in here.model.named_parameters():
        if f".{USER}." in name:
            torch.nn.init.normal_(parameter, std=0.05)
    here.model.double()
    train_only(here.model, USER)
    return here


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_a_users_adapter_beside_a_frozen_vaccine_equals_peft(setting, batch, family):
    here = with_frozen_vaccine(setting(family))
    expected = outcome(here, batch())
    kernels = LoraKernels(here.model)
    assert len(kernels) == sum(hasattr(module, "lora_A") for module in here.model.modules())
    hidden, gradients = outcome(here, batch())
    assert torch.allclose(hidden, expected[0], rtol=0, atol=1e-13)
    assert gradients
    assert all(f".{USER}." in name for name in gradients)
    assert gradients.keys() == expected[1].keys()
    assert all(torch.allclose(gradients[n], g, rtol=0, atol=1e-13) for n, g in expected[1].items())
    kernels.remove()


def test_adapters_switched_later_are_obeyed(setting, batch):
    here = with_frozen_vaccine(setting())
    inputs = {name: batch()[name] for name in ("input_ids", "attention_mask")}
    plain = here.model.get_base_model()
    kernels = LoraKernels(here.model)
    both = plain(**inputs).logits
    with here.model.disable_adapter():
        without = plain(**inputs).logits
    here.model.set_adapter(USER)
    one = plain(**inputs).logits
    kernels.remove()
    assert torch.equal(plain(**inputs).logits, one)
    with here.model.disable_adapter():
        assert torch.equal(plain(**inputs).logits, without)
    assert not torch.allclose(both, one)
    assert not torch.allclose(both, without)


def test_bfloat16_with_float32_adapters(setting, batch):
    here = setting(dtype=torch.bfloat16)
    assert {p.dtype for p in here.model.parameters() if p.requires_grad} == {torch.float32}
    expected = outcome(here, batch())[1]
    kernels = LoraKernels(here.model)
    gradients = outcome(here, batch())[1]
    kernels.remove()
    for name, gradient in expected.items():
        assert gradients[name].dtype == torch.float32
        assert torch.cosine_similarity(gradients[name].flatten(), gradient.flatten(), dim=0) > 0.98


def test_autocast_keeps_peft_forward(setting, batch):
    here = setting(dtype=torch.float32)
    inputs = {name: batch()[name] for name in ("input_ids", "attention_mask")}
    with torch.autocast("cpu", torch.bfloat16):
        expected = here.model(**inputs).logits
        kernels = LoraKernels(here.model)
        assert torch.equal(here.model(**inputs).logits, expected)
    kernels.remove()
