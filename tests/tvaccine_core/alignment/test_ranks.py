"""Runs of two processes against one process that does both processes' micro-batches, in float64."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

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
    spec = importlib.util.spec_from_file_location("ranks_program", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    from tiny_models import save_tiny_base

    return save_tiny_base(tmp_path_factory.mktemp("bases") / "four-layers", "llama", layers=4)


def alone(program, base, out, **changes):
    out.mkdir()
    program.train(base, out, {**SETTINGS, **changes})
    return load_file(out / "weights-0.safetensors"), json.loads((out / "run-0.json").read_text())


def two_ranks(*command):
    """Run a program as two ranks that talk by gloo; fails with the last words of the first that fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for child in children:
            _, errors = child.communicate(timeout=240)
            assert child.returncode == 0, errors[-2000:]
    finally:
        for child in children:
            child.kill()


def together(base, out, settings):
    out.mkdir()
    two_ranks(str(PROGRAM), str(base), str(out), json.dumps(settings))
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
    for mine, total in zip(runs[0]["losses"], whole["losses"], strict=True):
        assert mine == pytest.approx(total, abs=1e-9)
    first = load_file(tmp_path / "one" / "weights-0.safetensors")
    assert any(float(tensor.abs().max()) > 0 for name, tensor in first.items() if "lora_B" in name)


def test_a_model_sharded_over_two_ranks_has_the_same_gradients(setting, batch, tmp_path):
    """Each rank holds half of every parameter (torch's fully_shard); two windows freeze different adapters."""
    from tvaccine_core.alignment.two_pass import TwoPassScheme

    two_ranks(str(SHARDED), str(tmp_path))
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
    own = {"prefix_batches": 4, "fold_frozen": True}
    weights, ahead = alone(program, base, tmp_path / "ahead", **changes, trainer=own)
    assert plain["draws"] == ahead["draws"]
    assert all(draw["selected"][0] > 0 for draw in plain["draws"])  # or there would be no prefix
    assert largest_difference(weights, expected) < 1e-9
    # Two windows of three steps with two micro-batches each: groups of 4 and 2 in place of 6 single forwards.
    assert plain["first_layer_calls"] - ahead["first_layer_calls"] == 2 * (6 - 2)
