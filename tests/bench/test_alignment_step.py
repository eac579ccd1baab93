"""The bench of one alignment step: its variants take the same step on a tiny base, and what its summary says."""

import argparse
import importlib.util
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench" / "alignment_step.py"
DRAWN = [1, 4, 7]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("alignment_step", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    from tiny_models import save_tiny_base

    return str(save_tiny_base(tmp_path_factory.mktemp("bases") / "ten-layers", "llama", layers=10))


def test_variants_of_one_method_train_on_the_same_loss(bench, base):
    losses = {}
    for variant in bench.VARIANTS:
        step = bench.Step(variant, base, 1.0, torch.get_num_threads())
        before = [parameter.detach().clone() for parameter in step.parameters]
        losses[variant] = step.take(DRAWN)
        moved = [not torch.equal(old, new) for old, new in zip(before, step.parameters, strict=True)]
        assert any(moved)
        if step.scheme is not None:
            step.scheme.close()
    for variant in ("ours_folded", "ours_budget", "published_eager", "published_sdpa"):
        assert losses[variant] == pytest.approx(losses["ours"], rel=1e-4)
    # Plain training has no perturbation; a perturbation of every layer is another one.
    assert losses["plain_sft"] < losses["ours"] != losses["vaccine"]


def test_draws_come_from_a_probe(bench, base):
    step = bench.Step("ours", base, 1.0, torch.get_num_threads())
    draws = step.draws(5)
    step.scheme.close()
    assert all(len(set(drawn)) == bench.GAMMA and max(drawn) < 10 for drawn in draws)
    assert len({tuple(drawn) for drawn in draws}) > 1


def test_summary(bench):
    def steps(seconds, peak):
        return [{"seconds": s, "cpu_seconds": 2 * s, "peak_bytes": peak, "loss": 1.0} for s in seconds]

    answers = {variant: steps([2.0, 4.0], 2e9) for variant in bench.VARIANTS}
    answers["plain_sft"] = steps([1.0, 4.0], 2e9)
    answers["published_eager"] = steps([4.0, 8.0], 4e9)
    arguments = argparse.Namespace(base="b", threads=2, budget_gb=1.0)
    found = bench.summary(answers, [[1], [2]], arguments)
    assert found["variants"]["ours"]["peak_gb"] == 2.0
    assert found["ratios"]["ours_to_plain_sft"] == 1.5  # the median of 2 and 1
    assert found["ratios"]["ours_to_published"] == 0.5
    assert found["ratios"]["memory_ours_budget_to_published"] == 0.5
    assert all(found["targets_met"].values())
