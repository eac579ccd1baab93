"""A method whose strength is zero trains as plain supervised alignment does, from the first step to the last."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tvaccine_core.alignment.methods import alignment_config
from tvaccine_core.alignment.run import align
from tvaccine_core.training.metrics import read_metrics

LAYERS = 3
SHARED = {"steps": 5, "batch_size": 3, "gradient_accumulation_steps": 2, "save_every": 100, "seed": 3}
VACCINE = {"method": "vaccine"}
EVERY_LAYER = {
    "method": "t_vaccine", "gamma": LAYERS, "freeze_scope": "layer", "draw_every": 2, "probe_every": 3, "probe_batch": 4
}  # fmt: skip


@pytest.fixture
def train(tiny_base, tmp_path):
    """Call with settings and a dtype: the adapter's weights and the lines of metrics."""
    from tiny_models import chat_rows

    files = tmp_path / "alignment.jsonl", tmp_path / "harmful.jsonl"
    for path, answer in zip(files, ("I'm sorry, I can't.", "Mix flour."), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in chat_rows(11, answer=answer)), encoding="utf-8")

    def start(settings, dtype):
        out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        config = alignment_config({**SHARED, **settings})
        align(str(tiny_base("llama")), *files, out, config, dtype=dtype, device="cpu")
        return load_file(out / "adapter_model.safetensors"), read_metrics(out / "metrics.jsonl")

    return start


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("method", [VACCINE, EVERY_LAYER], ids=lambda settings: settings["method"])
def test_without_a_perturbation_it_is_plain_alignment(train, method):
    expected, _ = train({"method": "sft"}, "float64")
    assert {tensor.dtype for tensor in expected.values()} == {torch.float64}
    found, lines = train({**method, "rho": 0.0}, "float64")
    assert largest_difference(found, expected) < 1e-9
    assert [line["eps_norm"] for line in lines] == [0.0] * SHARED["steps"]
    perturbed, _ = train({**method, "rho": 0.3}, "float64")
    assert largest_difference(perturbed, expected) > 1e-6


@pytest.mark.parametrize("scheme", ["efficient", "two_pass"])
def test_booster_without_a_harmful_step_is_plain_alignment_bit_for_bit(train, scheme):
    """Both harmful gradients are then taken at the same weights: they cancel if they have the same dropout masks."""
    shared = {"scheme": scheme, "lora_dropout": 0.2}
    expected, _ = train({**shared, "method": "sft"}, "float32")
    found, lines = train({**shared, "method": "booster", "alpha": 0.0, "lamb": 5.0}, "float32")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [line["added_gradient_norm"] for line in lines] == [0.0] * SHARED["steps"]
    assert all(line["harmful_gradient_norm"] > 0.0 for line in lines)
    assert all(line["harmful_loss"] == line["harmful_loss_after"] for line in lines)
