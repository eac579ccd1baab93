"""Booster and TAR in two processes against one process that does both processes' micro-batches, in float64."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.ranks import load_program, two_ranks
from tvaccine_core.training.metrics import read_metrics

PROGRAM = Path(__file__).with_name("added_gradient_program.py")


def test_two_ranks_train_as_one_process_with_twice_the_micro_batches(
    tiny_base: Callable[[str], Path], tmp_path: Path
) -> None:
    program = load_program(PROGRAM)
    base, one, two = tiny_base("llama"), tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    program.both(base, one, 2)
    two_ranks(PROGRAM, base, two, "1")
    for method in ("booster", "tar"):
        expected = load_file(one / f"{method}-0.safetensors")
        first, second = (load_file(two / f"{method}-{rank}.safetensors") for rank in (0, 1))
        assert all(first[name].equal(second[name]) for name in expected)
        largest = max(float((first[name] - expected[name]).abs().max()) for name in expected)
        assert largest < 1e-9  # AdamW amplifies the rounding of small gradients
        alone, together = (read_metrics(out / f"metrics-{method}-0.jsonl") for out in (one, two))
        assert len(together) == program.SETTINGS["steps"]
        for mine, whole in zip(together, alone, strict=True):
            for name in ("loss", "harmful_loss", "alignment_gradient_norm", "added_gradient_norm", "grad_norm"):
                assert mine[name] == pytest.approx(whole[name], rel=1e-5), name
