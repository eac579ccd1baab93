"""The bench of batched scoring, on a tiny base."""

import importlib.util
from pathlib import Path

import pytest

from tvaccine_core.models.base import load_base

BENCH = Path(__file__).resolve().parents[2] / "bench" / "batched_scoring.py"
PROMPTS = [f"How do I bake {'very ' * (i % 4)}good bread number {i}?" for i in range(12)]


@pytest.fixture(scope="module")
def bench():
    import sys

    spec = importlib.util.spec_from_file_location("batched_scoring", BENCH)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_ways_give_the_same_answers_and_the_ratio_is_theirs(bench, tiny_base):
    base = load_base(str(tiny_base("llama")), dtype="float32", device="cpu")
    result = bench.compare(base.model, base.tokenizer, PROMPTS, alone=4, max_new_tokens=6, batch_size=8)
    assert (result["answered_alone"], result["same_answers"]) == (4, 4)
    speeds = result["answers_per_second"]
    assert result["ratio"] == pytest.approx(speeds["batched"] / speeds["alone"])
    cpu = result["cpu_seconds_per_answer"]
    assert result["ratio_cpu"] == pytest.approx(cpu["alone"] / cpu["batched"])


def test_other_answers_are_counted(bench, tiny_base, monkeypatch):
    base = load_base(str(tiny_base("llama")), dtype="float32", device="cpu")
    right = bench.one_at_a_time
    monkeypatch.setattr(bench, "one_at_a_time", lambda *args: ["other", *right(*args)[1:]])
    result = bench.compare(base.model, base.tokenizer, PROMPTS, alone=4, max_new_tokens=6, batch_size=8)
    assert result["same_answers"] == 3


def test_the_prompts_are_the_gates(bench):
    prompts = bench.gate_prompts(20)
    assert len(set(prompts)) == 20
