"""Booster and TAR in two processes against one process that does both processes' micro-batches, in float64."""

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tvaccine_core.training.metrics import read_metrics

PROGRAM = Path(__file__).with_name("added_gradient_program.py")


def in_two_processes(base: Path, out: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(base), str(out), "1"],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for child in children:
            _, errors = child.communicate(timeout=280)
            assert child.returncode == 0, errors[-2000:]
    finally:
        for child in children:
            child.kill()


def test_two_ranks_train_as_one_process_with_twice_the_micro_batches(
    tiny_base: Callable[[str], Path], tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("added_gradient_program", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    base, one, two = tiny_base("llama"), tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    program.both(base, one, 2)
    in_two_processes(base, two)
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
