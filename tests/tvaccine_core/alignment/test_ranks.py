"""Runs of two processes against one process that does both processes' micro-batches, in float64."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.ranks import load_program, two_ranks
from tvaccine_core.training.metrics import read_metrics

PROGRAM = Path(__file__).with_name("ranks_program.py")
SHARDED = Path(__file__).with_name("sharded_program.py")
SETTINGS = {
    "gamma": 2,
    "steps": 5,
    "probe_every": 3,
    "draw_every": 2,
    "probe_batch": 4,
    "batch_size": 2,
    "save_every": 100,
    "seed": 3,
    "learning_rate": 1e-2,
    "freeze_scope": "layer",
}


@pytest.fixture(scope="module")
def program():
    return load_program(PROGRAM)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    from tiny_models import save_tiny_base

    return save_tiny_base(tmp_path_factory.mktemp("bases") / "four-layers", "llama", layers=4)


def alone(program, base, out, **changes):
    out.mkdir()
    program.train(base, out, {**SETTINGS, **changes})
    return load_file(out / "weights-0.safetensors"), json.loads((out / "run-0.json").read_text())


def together(base, out, settings):
    out.mkdir()
    two_ranks(PROGRAM, base, out, json.dumps(settings))
    runs = [json.loads((out / f"run-{rank}.json").read_text()) for rank in (0, 1)]
    return [load_file(out / f"weights-{rank}.safetensors") for rank in (0, 1)], runs


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("method", ["t_vaccine", "sft"])
def test_two_ranks_train_as_one_process_with_twice_the_micro_batches(program, base, tmp_path, method):
    expected, whole = alone(program, base, tmp_path / "one", method=method, gradient_accumulation_steps=2)
    weights, runs = together(base, tmp_path / "two", {**SETTINGS, "method": method})
    assert largest_difference(*weights) == 0.0
    assert largest_difference(weights[0], expected) < 1e-9  # AdamW amplifies the rounding of small gradients
    assert runs[0]["draws"] == runs[1]["draws"] == whole["draws"]
    assert len(whole["draws"]) == (3 if method == "t_vaccine" else 1)
    for mine, theirs in zip(runs[0]["probes"], runs[1]["probes"], strict=True):
        assert mine == theirs
    ours, whole_run = (read_metrics(tmp_path / name / "metrics-0.jsonl") for name in ("two", "one"))
    losses = [line["loss"] for line in ours if "loss" in line]
    assert len(losses) == SETTINGS["steps"]
    assert losses == pytest.approx([line["loss"] for line in whole_run if "loss" in line], abs=1e-9)
    first = load_file(tmp_path / "one" / "weights-0.safetensors")
    assert any(float(tensor.abs().max()) > 0 for name, tensor in first.items() if "lora_B" in name)


def test_a_model_sharded_over_two_ranks_has_the_same_gradients(setting, batch, tmp_path):
    """Each rank holds half of every parameter (torch's fully_shard); two windows freeze different adapters."""
    from tvaccine_core.alignment.two_pass import TwoPassScheme

    two_ranks(SHARDED, tmp_path)
    here = setting("llama")
    batches = [batch(rows=2, seed=0), batch(rows=3, seed=1)]
    counts = [int((inputs["labels"][:, 1:] != -100).sum()) for inputs in batches]
    for number, (selected, scope) in enumerate((((1, 3), "attention"), ((2,), "layer"))):
        here.model.zero_grad()
        plain = TwoPassScheme(here.model, here.layers, 0.5)
        plain.open_window(here.window(selected, scope))
        for inputs, count in zip(batches, counts, strict=True):
            share = count / sum(counts)
            plain.step(inputs, lambda loss, share=share: (loss * share).backward())
        found = load_file(tmp_path / f"gradients-{number}.safetensors")
        # A factor of the loss is rounded in float32 where it passes through a norm.
        assert largest_difference(found, here.gradients()) < 1e-7


def test_looking_ahead_and_folding_train_the_same(program, base, tmp_path):
    changes = {"gradient_accumulation_steps": 2, "steps": 6, "draw_every": 3, "seed": 17, "select": "uniform"}
    expected, plain = alone(program, base, tmp_path / "plain", **changes)
    weights, ahead = alone(program, base, tmp_path / "ahead", **changes, prefix_batches=4, fold_frozen=True)
    assert plain["draws"] == ahead["draws"]
    assert all(draw["selected"][0] > 0 for draw in plain["draws"])  # or there would be no prefix
    assert largest_difference(weights, expected) < 1e-9
    # Two windows of three steps with two micro-batches each: groups of 4 and 2 in place of 6 single forwards.
    assert plain["first_layer_calls"] - ahead["first_layer_calls"] == 2 * (6 - 2)
