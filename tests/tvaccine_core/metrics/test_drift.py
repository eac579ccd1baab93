from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tvaccine_core.data.row_forms import Row, judge_row
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.run import fine_tune
from tvaccine_core.metrics.drift import attention_states, drift_curve, embedding_drift, fixed_batches
from tvaccine_core.metrics.run_states import checkpoints_of
from tvaccine_core.models.adapter_files import adapter_weights
from tvaccine_core.models.adapters import USER, add_user_adapter
from tvaccine_core.models.base import load_base
from tvaccine_core.models.layers import find_layers

FAMILIES = ["llama", "qwen2", "gemma2", "opt"]


@pytest.fixture
def rows() -> tuple[Row, ...]:
    from tiny_models import chat_rows

    read = [judge_row(line, value)[0] for line, value in enumerate(chat_rows(7), start=1)]
    return tuple(row for row in read if row is not None)


@pytest.fixture
def load(tiny_base: Callable[[str], Path]) -> Callable[..., Any]:
    return lambda family="llama", dtype="float64": load_base(str(tiny_base(family)), dtype=dtype, device="cpu")


def output_map(attention: Any) -> Any:
    return next(m for n, m in attention.named_children() if n in ("o_proj", "out_proj"))


def moved(model: Any, layer: int, by: torch.Tensor) -> Any:
    """Adds a constant to the output of a layer's attention, in place."""
    projection = output_map(find_layers(model).attention[layer])
    with torch.no_grad():
        start = projection.bias if projection.bias is not None else torch.zeros(len(by), dtype=by.dtype)
        projection.bias = torch.nn.Parameter(start + by)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_model_has_not_drifted(family: str, load: Any, rows: Any) -> None:
    base = load(family)
    states = attention_states(base.model)
    found = embedding_drift(states, states, fixed_batches(base.tokenizer, rows, 256))
    assert found.layers == (0.0,) * 3
    assert found.total == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_constant_shift_of_the_last_layer_is_its_square(family: str, load: Any, rows: Any) -> None:
    """a -> a + c in the last layer moves every token by ||c||^2 there, and nothing below."""
    base, other = load(family), load(family)
    shift = torch.linspace(-1, 1, 32, dtype=torch.float64)
    after = attention_states(moved(other.model, 2, shift))
    found = embedding_drift(attention_states(base.model), after, fixed_batches(base.tokenizer, rows, 256, 3))
    assert found.layers[:2] == (0.0, 0.0)
    assert found.layers[2] == pytest.approx(float(shift.square().sum()), rel=1e-12)
    assert found.total == pytest.approx(sum(found.layers), rel=1e-15)


def test_layers_above_a_shift_drift_too(load: Any, rows: Any) -> None:
    base, other = load(), load()
    after = attention_states(moved(other.model, 0, torch.full((32,), 0.3, dtype=torch.float64)))
    found = embedding_drift(attention_states(base.model), after, fixed_batches(base.tokenizer, rows, 256))
    assert found.layers[0] == pytest.approx(32 * 0.09, rel=1e-12)
    assert min(found.layers) > 0


def test_it_is_a_mean_over_real_tokens_whatever_the_batches(load: Any, rows: Any) -> None:
    base, other = load(), load()
    before, after = attention_states(base.model), attention_states(moved(other.model, 0, torch.ones(32).double()))
    alone = [embedding_drift(before, after, fixed_batches(base.tokenizer, [row], 256)) for row in rows]
    assert len({one.tokens for one in alone}) > 1  # rows of different lengths: padding would tell
    for size in (1, 3, 7):
        found = embedding_drift(before, after, fixed_batches(base.tokenizer, rows, 256, size))
        assert found.tokens == sum(one.tokens for one in alone)
        for layer in range(3):
            weighted = sum(one.layers[layer] * one.tokens for one in alone) / found.tokens
            assert found.layers[layer] == pytest.approx(weighted, rel=1e-10)
    twice = embedding_drift(before, after, fixed_batches(base.tokenizer, [*rows, *rows], 256))
    assert twice.total == pytest.approx(found.total, rel=1e-10)  # the published script's sum would double


def test_it_is_symmetric_and_leaves_the_model_as_it_was(load: Any, rows: Any) -> None:
    base, other = load(), load()
    batches = fixed_batches(base.tokenizer, rows, 256)
    one, two = attention_states(base.model.train()), attention_states(moved(other.model, 1, torch.ones(32).double()))
    assert embedding_drift(one, two, batches) == embedding_drift(two, one, batches)
    assert base.model.training
    assert all(not module._forward_hooks for module in base.model.modules())


def test_without_rows_there_is_no_drift(load: Any) -> None:
    states = attention_states(load().model)
    with pytest.raises(InvalidRequest):
        embedding_drift(states, states, [])


@pytest.fixture
def run(tiny_base: Callable[[str], Path], rows_file: Path, tmp_path: Path) -> Path:
    config = FineTuneConfig(lora_r=2, epochs=2, batch_size=4, learning_rate=1e-2, save_every=2)
    fine_tune(str(tiny_base("llama")), None, rows_file, tmp_path / "run", config, dtype="float32", device="cpu")
    return tmp_path / "run"


def test_the_curve_over_a_run_starts_at_the_model_before_it(load: Any, rows: Any, run: Path) -> None:
    base = load(dtype="float32")
    batches = fixed_batches(base.tokenizer, rows, 256, 3)
    model = add_user_adapter(base.model, FineTuneConfig(lora_r=2))
    start = {name: weight.clone() for name, weight in adapter_weights(model, USER).items()}
    curve = drift_curve(model, USER, checkpoints_of(run / "checkpoints"), batches)
    assert [point["step"] for point in curve] == sorted(point["step"] for point in curve)
    assert len(curve) >= 2
    assert 0 < curve[0]["total"] < curve[-1]["total"]
    assert all(torch.equal(weight, start[name]) for name, weight in adapter_weights(model, USER).items())

    # The last checkpoint by hand: the base, and the released adapter on it.
    from tvaccine_core.models.adapters import load_combined

    before, tuned = (
        attention_states(load(dtype="float32").model),
        load_combined(load(dtype="float32").model, run / "combined"),
    )
    expected = embedding_drift(before, attention_states(tuned), batches)
    assert curve[-1]["total"] == pytest.approx(expected.total, rel=1e-4)


def test_incomplete_checkpoints_and_empty_folders_are_refused(load: Any, rows: Any, run: Path, tmp_path: Path) -> None:
    paths = checkpoints_of(run / "checkpoints")
    (paths[0] / "COMPLETE").unlink()
    assert checkpoints_of(run / "checkpoints") == paths[1:]
    base = load(dtype="float32")
    model = add_user_adapter(base.model, FineTuneConfig(lora_r=2))
    with pytest.raises(InvalidRequest, match=paths[0].name):
        drift_curve(model, USER, paths, fixed_batches(base.tokenizer, rows, 256))
    with pytest.raises(InvalidRequest) as error:
        checkpoints_of(tmp_path)
    assert error.value.param == "checkpoints"
