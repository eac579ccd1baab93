"""The bench of GPU memory: its steps on tiny shapes on a CPU, its summary, and what it refuses."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench" / "gpu_memory.py"
TINY = {
    "vocab_size": 200,
    "max_position_embeddings": 64,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FOUR_BIT = ["ours_4bit", "ours_4bit_11gb"] if importlib.util.find_spec("bitsandbytes") is not None else []


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("gpu_memory", BENCH)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("variant", ["sft", "vaccine", "t_vaccine_published", "ours", "ours_22gb", *FOUR_BIT])
def test_every_variant_takes_steps(bench, family, variant, monkeypatch):
    monkeypatch.setattr(bench, "RHO", 0.01)  # 3 suits a model of another size
    config = bench.model_config((family, TINY))
    found = bench.measure(bench.VARIANTS[variant], config, device="cpu", steps=2, rows=2, tokens=16, gamma=2)
    assert len(found["seconds"]) == 2
    # Random weights: the loss is that of guessing among 200 tokens.
    assert found["loss"] == pytest.approx(torch.tensor(200.0).log().item(), rel=0.1)


def test_weights_are_all_there_and_frozen(bench):
    model = bench.random_model(bench.model_config(("llama", TINY)), "cpu", torch.bfloat16, four_bit=False)
    assert not [name for name, held in [*model.named_parameters(), *model.named_buffers()] if held.is_meta]
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    frequencies = model.model.rotary_emb.inv_freq
    assert frequencies[0] == 1.0
    assert torch.all(frequencies[1:] < frequencies[:-1])


@pytest.mark.parametrize(("shape", "billions"), [("llama-2-7b", 6.74), ("llama-2-13b", 13.02), ("qwen2-7b", 7.62)])
def test_the_shapes_are_the_published_ones(bench, shape, billions):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(bench.model_config(bench.SHAPES[shape]))
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)


def measured(reserved):
    return {"seconds": [0.5, 0.3, 0.4], "loss": 2.0, "allocated": reserved - 1e9, "reserved": reserved}


def test_summary_and_table(bench):
    results = {
        "llama-2-7b": {
            "sft": {**measured(40e9), "seconds": [0.2, 0.2, 0.2]},
            "ours": measured(25e9),
            "ours_22gb": measured(23e9),
            "ours_4bit": {"error": "out of memory"},
        }
    }
    found = bench.summary(results)
    ours = found["shapes"]["llama-2-7b"]["ours"]
    assert (ours["seconds"], ours["reserved_gb"], ours["allocated_gb"]) == (0.4, 25.0, 24.0)
    assert list(found["aims"].values()) == [True, None, None]
    lines = bench.table(found["shapes"]).splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["sft", "ours", "ours_22gb", "ours_4bit"]
    assert lines[2].split()[-1] == "2.00"
    assert lines[4].endswith("out of memory")


def test_without_a_gpu_it_says_so_and_ends():
    done = subprocess.run(
        [sys.executable, str(BENCH)], capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": ""}, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("needs a CUDA GPU and there is none here.")
    assert "Traceback" not in done.stderr
