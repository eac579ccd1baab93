"""RepNoise in two processes against one process that does both processes' micro-batches, in float64."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.ranks import load_program, two_ranks
from tvaccine_core.training.metrics import read_metrics

PROGRAM = Path(__file__).with_name("repnoise_program.py")


def test_two_ranks_train_as_one_process_with_twice_the_micro_batches(
    tiny_base: Callable[[str], Path], tmp_path: Path
) -> None:
    program = load_program(PROGRAM)
    base, one, two = tiny_base("llama"), tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    program.train(base, one, 2)
    two_ranks(PROGRAM, base, two, "1")
    expected = load_file(one / "weights-0.safetensors")
    first, second = (load_file(two / f"weights-{rank}.safetensors") for rank in (0, 1))
    assert all(first[name].equal(second[name]) for name in expected)
    assert max(float((first[name] - expected[name]).abs().max()) for name in expected) < 1e-9
    alone, together = (read_metrics(out / "metrics-0.jsonl") for out in (one, two))
    assert len(together) == program.STEPS
    for mine, whole in zip(together, alone, strict=True):
        assert mine["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        assert mine["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-5)
