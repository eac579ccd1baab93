"""Bases in 4 bits: what is refused, what the loader is told, and the step on 4-bit maps where the library is there."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models import quantization
from tvaccine_core.models.adapters import lora_targets
from tvaccine_core.models.base import load_base
from tvaccine_core.models.quantization import (
    BYTES_PER_WEIGHT,
    check_quantization,
    dense_dtype,
    dense_weight,
    four_bit_config,
    is_four_bit,
)

CUDA = torch.device("cuda")


def test_without_a_gpu_it_is_refused_before_anything_is_loaded(tiny_base: Any) -> None:
    for name in (str(tiny_base("llama")), "owner/no-such-model"):
        with pytest.raises(InvalidRequest, match="CUDA GPU") as error:
            load_base(name, device="cpu", quantization="4bit")
        assert error.value.param == "quantization"


def test_unknown_quantizations_are_refused(tiny_base: Any) -> None:
    with pytest.raises(InvalidRequest, match="one of none, 4bit") as error:
        load_base(str(tiny_base("llama")), device="cpu", quantization="3bit")
    assert error.value.param == "quantization"
    assert load_base(str(tiny_base("llama")), device="cpu").quantization == "none"


def test_float64_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="float64") as error:
        check_quantization("4bit", CUDA, torch.float64)
    assert error.value.param == "dtype"


def test_without_the_library_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match=r"tvaccine\[qlora\]"):
        check_quantization("4bit", CUDA, torch.bfloat16)


def test_what_the_loader_is_told() -> None:
    told = four_bit_config(torch.bfloat16).to_dict()
    assert told["load_in_4bit"]
    assert told["bnb_4bit_quant_type"] == "nf4"
    assert told["bnb_4bit_use_double_quant"]
    assert told["bnb_4bit_compute_dtype"] == "bfloat16"
    assert told["llm_int8_skip_modules"] is None  # leaves the output head as it is


def test_an_ordinary_map_is_dense_already() -> None:
    linear = torch.nn.Linear(4, 3, dtype=torch.bfloat16)
    assert not is_four_bit(linear)
    assert dense_weight(linear) is linear.weight
    assert dense_dtype(linear) == torch.bfloat16
    assert pytest.approx(0.516, abs=1e-3) == BYTES_PER_WEIGHT


def load_on_cpu(directory: Path) -> Any:
    """As `load_base` does on a GPU."""
    return AutoModelForCausalLM.from_pretrained(
        str(directory),
        dtype=torch.float32,
        quantization_config=four_bit_config(torch.float32),
        device_map={"": torch.device("cpu")},
        use_safetensors=True,
    ).requires_grad_(False)


if importlib.util.find_spec("bitsandbytes") is not None:  # its CPU kernels do for a tiny model

    @pytest.fixture(scope="module")
    def model(tmp_path_factory: Any) -> Any:
        from tiny_models import save_tiny_base

        base = load_on_cpu(save_tiny_base(tmp_path_factory.mktemp("q") / "base", "llama", layers=4, hidden=128))
        torch.manual_seed(0)
        lora = LoraConfig(r=4, target_modules=lora_targets(base), task_type="CAUSAL_LM")
        adapted = get_peft_model(base, lora).train()
        for name, parameter in adapted.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        return adapted

    def test_every_map_of_the_layers_is_in_four_bits_and_takes_an_adapter(model: Any) -> None:
        from tvaccine_core.models.layers import find_layers

        assert len(find_layers(model)) == 4
        maps = [m for m in model.modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")]
        assert len(maps) == 4 * 7
        for module in maps:
            assert is_four_bit(module.base_layer)
            weight = module.base_layer.weight
            held = weight.numel() + weight.quant_state.absmax.numel()
            assert held < 0.53 * module.in_features * module.out_features
            assert dense_weight(module.base_layer).shape == (module.out_features, module.in_features)
        assert not is_four_bit(model.get_output_embeddings())

    @pytest.mark.parametrize("budget", [None, 1.0])
    def test_our_step_equals_two_plain_passes(model: Any, budget: float | None) -> None:
        from tvaccine_core.alignment.efficient import EfficientScheme
        from tvaccine_core.alignment.freezing import find_adapters, open_window, release_all
        from tvaccine_core.alignment.two_pass import TwoPassScheme
        from tvaccine_core.models.layers import find_layers

        layers = find_layers(model)
        adapters = find_adapters(model, layers)
        window = open_window(adapters, (1, 3), method="t_vaccine", freeze_scope="attention", mlp_below=True)
        ids = torch.randint(3, 300, (3, 24), generator=torch.Generator().manual_seed(0))
        labels = ids.clone()
        labels[:, :10] = -100
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        found = []
        for make in (TwoPassScheme, lambda *a: EfficientScheme(*a, budget, fold_frozen=True)):
            scheme = make(model, layers, 0.5)
            model.zero_grad()
            scheme.open_window(window)
            report = scheme.step(inputs, torch.Tensor.backward)
            found.append((report, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
            scheme.close()
        release_all(adapters)
        (plain, expected), (ours, gradients) = found
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            assert torch.allclose(gradients[name], gradient, atol=1e-4 * float(gradient.abs().max()) + 1e-7)
        assert ours.values()["loss_perturbed"] == pytest.approx(plain.values()["loss_perturbed"], rel=1e-5)
