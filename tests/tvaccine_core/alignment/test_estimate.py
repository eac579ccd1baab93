"""Estimates of memory from a configuration alone, against what real steps keep."""

import dataclasses
import logging

import pytest
import torch
from transformers import LlamaConfig

from tvaccine_core.alignment.batch import supervised_batch
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.estimate import estimate_for, estimate_memory, layer_bytes
from tvaccine_core.alignment.memory import RecomputePlanner, held_storages, measure_layer
from tvaccine_core.alignment.repnoise_config import RepNoiseConfig
from tvaccine_core.errors import InvalidRequest

CONFIG = TVaccineConfig(batch_size=3, max_length=24, lora_r=4, gamma=2)
LAYERS = 6


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "opt"])
def test_a_layer_is_measured_as_in_a_run(setting, batch, efficient, family):
    here = setting(family, layers=LAYERS, dtype=torch.float32)
    scheme = efficient(here, budget=1e12)
    scheme.open_window(here.window(range(LAYERS)))
    inputs = batch(length=24)
    inputs["attention_mask"].fill_(1)
    reduced = supervised_batch({**inputs, "labels": inputs["input_ids"]})
    held = held_storages(here.model)
    real = measure_layer(reduced, LAYERS, held, scheme._measuring(reduced))
    config = here.model.get_base_model().config
    config.dropout = 0.0  # as the modules of the fixture have it
    imagined = layer_bytes(config, CONFIG, torch.float32)
    assert dataclasses.astuple(imagined) == dataclasses.astuple(real)


def quantized(config, four_bit):
    return dataclasses.replace(config, quantization="4bit" if four_bit else "none")


@pytest.mark.parametrize("four_bit", [False, True])
def test_weights_and_adapters_are_counted(setting, four_bit):
    here = setting(layers=LAYERS, dtype=torch.bfloat16)
    estimate = estimate_memory(here.model.get_base_model().config, quantized(CONFIG, four_bit), torch.bfloat16)
    base = {n: p for n, p in here.model.named_parameters() if ".lora_" not in n}
    maps = sum(p.numel() for n, p in base.items() if "_proj" in n)
    others = sum(p.numel() for p in base.values()) - maps
    assert estimate.weights == pytest.approx(maps * (0.516 if four_bit else 2) + others * 2, rel=1e-3)
    trained = sum(p.numel() for n, p in here.model.named_parameters() if ".lora_" in n)
    assert estimate.adapters == trained * 4 * 4  # float32: value, gradient and two moments
    assert estimate.total == estimate.weights + estimate.adapters + estimate.activations + estimate.head
    assert (estimate.layers, estimate.rows, estimate.tokens) == (LAYERS, 3, 24)


def stored_bytes(here, scheme, inputs, window):
    """Bytes of the distinct storages that the second pass keeps, weights left out."""
    known, stored = held_storages(here.model), {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            stored[storage._cdata] = (storage.nbytes(), tensor)
        return tensor

    kept = []

    def backward(loss):
        kept.append(sum(size for size, _ in stored.values()))
        loss.backward()

    scheme.open_window(window)
    here.model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scheme.step(inputs, backward)
    return kept[0]


def test_activations_are_at_least_those_of_a_real_step(setting, batch, efficient):
    here = setting(layers=LAYERS, dtype=torch.float32)
    inputs = batch(length=24)
    inputs["attention_mask"].fill_(1)
    inputs["labels"] = inputs["input_ids"].clone()
    estimate = estimate_for(here.model, dataclasses.replace(CONFIG, method="sft"))
    found = stored_bytes(here, efficient(here), inputs, here.window((), method="sft"))
    assert found <= estimate.activations
    assert estimate.activations < 1.5 * found


LARGER = LlamaConfig(hidden_size=512, intermediate_size=1024, num_hidden_layers=LAYERS, vocab_size=500)


def test_a_budget_is_kept_where_it_can_be_and_missed_aloud():
    free = estimate_memory(LARGER, CONFIG, torch.float32)
    assert (free.recomputed, free.budget) == (0, None)
    tight = dataclasses.replace(CONFIG, memory_budget_gb=(free.total - 1) / 1e9)
    kept = estimate_memory(LARGER, tight, torch.float32)
    assert kept.recomputed == 1
    assert kept.total <= kept.budget < free.total
    assert "budget" not in str(kept)
    scant = estimate_memory(LARGER, dataclasses.replace(CONFIG, memory_budget_gb=free.weights / 1e9), torch.float32)
    assert scant.recomputed == LAYERS - 1 - CONFIG.gamma  # drawn layers and the last are never recomputed
    assert scant.total > scant.budget
    assert "over the budget" in str(scant)


def test_the_estimate_is_what_the_run_plans_with(setting, batch, efficient):
    here = setting(layers=LAYERS, dtype=torch.float32)
    config = here.model.get_base_model().config
    free = estimate_memory(config, CONFIG, torch.float32)
    planner = RecomputePlanner(here.model, LAYERS, 0.0)
    assert planner._fixed == free.weights + free.adapters


def test_methods_differ_in_what_may_be_recomputed():
    counts = {}
    for method in ("sft", "t_vaccine", "vaccine"):
        settings = dataclasses.replace(CONFIG, method=method, memory_budget_gb=0.01)
        counts[method] = estimate_memory(LARGER, settings, torch.float32).recomputed
    assert counts == {"sft": LAYERS - 1, "t_vaccine": LAYERS - 1 - CONFIG.gamma, "vaccine": 0}


def test_other_methods_and_schemes_are_refused(setting):
    config = setting().model.get_base_model().config
    with pytest.raises(InvalidRequest, match="repnoise") as error:
        estimate_memory(config, RepNoiseConfig(), torch.float32)
    assert error.value.param == "method"
    with pytest.raises(InvalidRequest) as error:
        estimate_memory(config, dataclasses.replace(CONFIG, scheme="published"), torch.float32)
    assert error.value.param == "scheme"


def test_seven_billion_parameters_on_small_cards():
    """The published shapes: 10 rows of 200 tokens fit 24 GB, and 12 GB with a base in 4 bits."""
    shape = LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
    )
    for four_bit, budget in ((False, 22.0), (True, 11.0)):
        settings = quantized(TVaccineConfig(batch_size=10, max_length=200, memory_budget_gb=budget), four_bit)
        estimate = estimate_memory(shape, settings, torch.bfloat16)
        assert estimate.weights == pytest.approx(3.87e9 if four_bit else 13.48e9, rel=0.01)
        assert estimate.total <= budget * 1e9
        assert 0 < estimate.recomputed < 20


def test_a_run_with_a_budget_says_beforehand_what_it_needs(setting, caplog):
    from tvaccine_core.alignment.trainer import _log_estimate

    here = setting(layers=LAYERS, dtype=torch.float32)
    with caplog.at_level(logging.INFO):
        _log_estimate(here.model, dataclasses.replace(CONFIG, memory_budget_gb=1.0))
    assert "A step of 3 rows of 24 tokens needs at most about" in caplog.text
    assert [record.levelname for record in caplog.records] == ["INFO"]
