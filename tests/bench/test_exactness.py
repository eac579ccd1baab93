"""Our step equals the plain two passes in float64: on four architectures, for every place of the lowest drawn layer."""

import contextlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench" / "exactness.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("exactness", BENCH)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "opt"])
@pytest.mark.parametrize("throughout", [True, False], ids=["float64 throughout", "as transformers"])
def test_every_adapter_gradient_is_within_the_limit(bench, family, throughout):
    with bench.in_float64() if throughout else contextlib.nullcontext():
        cases = list(bench.compare(family, 5))
    assert {(case.place, case.scope, case.folded) for case in cases} == {
        (place, scope, folded)
        for place in ("bottom", "middle", "top")
        for scope in ("attention", "layer")
        for folded in (False, True)
    }
    lowest = {case.place: case.selected[0] for case in cases}
    assert lowest == {"bottom": 0, "middle": 2, "top": 4}
    for case in cases:
        assert case.difference < bench.LIMIT == 1e-12
        assert case.largest > 1e-3


def test_nothing_is_rounded_to_float32_on_the_way(bench):
    """Where the loss scales, so do the gradients, to float64: in float32 norms they would not."""
    model, inputs = bench.adapted_model("llama", 4), bench.rows()
    results = {}
    for throughout in (True, False):
        with bench.in_float64() if throughout else contextlib.nullcontext():
            found = []
            for scale in (1.0, 0.3):
                model.zero_grad()
                logits = model(input_ids=inputs["input_ids"]).logits
                (scale * torch.logsumexp(logits, -1).mean()).backward()
                found.append({n: p.grad / scale for n, p in model.named_parameters() if p.grad is not None})
        apart = [(found[0][n] - found[1][n]).abs().max() / found[0][n].abs().max() for n in found[0]]
        results[throughout] = float(max(apart))
    assert results[True] < 1e-12 < 1e-9 < results[False]


def test_a_difference_fails_the_command(tmp_path):
    """The command's exit status is the verdict: with a limit that no arithmetic meets it says no."""
    program = tmp_path / "exactness_strict.py"
    text = BENCH.read_text(encoding="utf-8").replace("LIMIT = 1e-12", "LIMIT = 0.0")
    program.write_text(text.replace("Path(__file__).resolve().parent.parent", f"Path({str(BENCH)!r}).parent.parent"))
    done = subprocess.run([sys.executable, str(program), "--layers", "4"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr[-500:]
    assert "limit 0e+00" in done.stdout
