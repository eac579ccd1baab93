import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.run import align
from tvaccine_core.data.row_forms import judge_row
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.metrics.drift import fixed_batches
from tvaccine_core.metrics.layer_curves import gradient_norm_curve, layer_gradient_norms, read_layer_curves
from tvaccine_core.metrics.run_states import checkpoints_of
from tvaccine_core.models.adapters import VACCINE, lora_config
from tvaccine_core.models.base import load_base
from tvaccine_core.models.layers import find_layers

CONFIG = TVaccineConfig(gamma=2, steps=6, probe_every=4, draw_every=2, probe_batch=4, batch_size=3, save_every=3)


@pytest.fixture
def make_run(tiny_base: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    from tiny_models import chat_rows

    def write(name: str, answer: str) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in chat_rows(9, answer=answer)), encoding="utf-8")
        return path

    def make(**settings: Any) -> Path:
        config = TVaccineConfig.from_dict({**CONFIG.to_dict(), **settings})
        files = write("a.jsonl", "I'm sorry, but I can't help."), write("h.jsonl", "Mix flour.")
        align(str(tiny_base("llama")), *files, tmp_path / "run", config, dtype="float32", device="cpu")
        return tmp_path / "run"

    return make


def test_a_finished_run_gives_its_probes_and_draws(make_run: Callable[..., Path]) -> None:
    run = make_run()
    report = json.loads((run / "report.json").read_text())
    curves = read_layer_curves(run)
    assert curves.steps == (0, 4)
    # A run that notes the norms beside the shares is read by its norms.
    key = "norms" if "norms" in report["probes"][0] else "p"
    assert curves.unit == ("norm" if key == "norms" else "share")
    assert [list(row) for row in curves.values] == [probe[key] for probe in report["probes"]]
    assert curves.draws == 3
    assert sum(curves.drawn) == 3 * 2
    for layer, count in enumerate(curves.drawn):
        assert count == sum(layer in draw["selected"] for draw in report["draws"])
    assert [step for step, _ in curves.joint] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_is_not_finished_says_the_same(make_run: Callable[..., Path]) -> None:
    run = make_run()
    finished = read_layer_curves(run)
    (run / "report.json").unlink()
    unfinished = read_layer_curves(run)
    assert unfinished.steps == finished.steps
    assert (unfinished.drawn, unfinished.draws) == (finished.drawn, finished.draws)
    if unfinished.unit == finished.unit:
        assert unfinished.values == finished.values


def test_noted_norms_are_read_as_norms(tmp_path: Path) -> None:
    lines = [
        {
            "t": 0.0,
            "stage": "vaccinating",
            "step": 1,
            "total": 3,
            "p": [0.25, 0.75],
            "norms": [1.0, 3.0],
            "selected": [1],
        },
        {"t": 1.0, "stage": "vaccinating", "step": 2, "total": 3, "gradient_norm": 2.5},
        {"t": 2.0, "stage": "vaccinating", "step": 3, "total": 3, "gradient_norm": None},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves = read_layer_curves(tmp_path)
    assert (curves.unit, curves.values, curves.steps) == ("norm", ((1.0, 3.0),), (0,))
    assert (curves.drawn, curves.draws, curves.joint) == ((0, 1), 1, ((2, 2.5),))
    assert json.loads(json.dumps(curves.to_dict()))["values"] == [[1.0, 3.0]]


def test_a_run_without_probes_is_told_what_to_do(make_run: Callable[..., Path]) -> None:
    with pytest.raises(InvalidRequest, match="gradient_norm_curve"):
        read_layer_curves(make_run(method="sft"))


def fixed_batch(tokenizer: Any) -> Any:
    from tiny_models import chat_rows

    read = [judge_row(line, value)[0] for line, value in enumerate(chat_rows(4), start=1)]
    return fixed_batches(tokenizer, [row for row in read if row is not None], 256)[0]


def shifted_loss(model: Any, batch: Any, layer: int, shift: torch.Tensor) -> torch.Tensor:
    """The mean loss of the batch with a shift added to one layer's attention output."""
    attention = find_layers(model).attention[layer]
    handle = attention.register_forward_hook(lambda _m, _a, out: (out[0] + shift, *out[1:]))
    try:
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    finally:
        handle.remove()
    flat = logits.reshape(-1, logits.shape[-1])
    return torch.nn.functional.cross_entropy(flat, batch["labels"][:, 1:].reshape(-1))


def test_a_norm_is_the_slope_of_the_loss_along_the_steepest_shift(tiny_base: Callable[[str], Path]) -> None:
    base = load_base(str(tiny_base("llama")), dtype="float64", device="cpu")
    batch = fixed_batch(base.tokenizer)
    norms = layer_gradient_norms(base.model, batch)
    assert len(norms) == 3
    shape = (*batch["input_ids"].shape, 32)
    for layer, norm in enumerate(norms):
        zero = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(shifted_loss(base.model, batch, layer, zero), zero)
        assert norm == pytest.approx(float(gradient.norm()), rel=1e-6)
        # By differences, too; norms inside the model round to float32, so the step must not be tiny.
        step = 1e-2 * gradient / gradient.norm()
        with torch.no_grad():
            rise = shifted_loss(base.model, batch, layer, step) - shifted_loss(base.model, batch, layer, -step)
        assert norm == pytest.approx(float(rise) / 2e-2, rel=5e-3)


def test_checkpoints_of_any_method_can_be_measured_afterwards(
    make_run: Callable[..., Path], tiny_base: Callable[[str], Path]
) -> None:
    from peft import get_peft_model

    run = make_run(method="sft", learning_rate=1e-2)
    base = load_base(str(tiny_base("llama")), dtype="float32", device="cpu")
    batch = fixed_batch(base.tokenizer)
    stock = layer_gradient_norms(base.model, batch)
    model = get_peft_model(base.model, lora_config(base.model, CONFIG), adapter_name=VACCINE)
    curves = gradient_norm_curve(model, VACCINE, checkpoints_of(run / "checkpoints"), batch)
    assert curves.steps == (3, 6)
    assert curves.unit == "norm"
    assert curves.values[0] != curves.values[1]
    assert layer_gradient_norms(model, batch) == pytest.approx(stock, rel=1e-5)  # the fresh adapter is back
    assert all(parameter.grad is None for parameter in model.parameters())
