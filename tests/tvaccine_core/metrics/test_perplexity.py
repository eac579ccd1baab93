import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tvaccine_core.data.row_forms import Row, judge_row
from tvaccine_core.data.tokenise import encode_rows
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.metrics.perplexity import Perplexity, WritingFloor, answer_perplexity, coherent_share


def rows(count: int) -> list[Row]:
    from tiny_models import chat_rows

    read = [judge_row(line, value)[0] for line, value in enumerate(chat_rows(count), start=1)]
    return [row for row in read if row is not None]


@pytest.fixture
def load(tiny_base: Callable[[str], Any]) -> Callable[..., Any]:
    from tvaccine_core.models.base import load_base

    return lambda dtype="float64": load_base(str(tiny_base("llama")), dtype=dtype, device="cpu")


def test_it_is_exp_of_the_mean_cross_entropy_of_the_answer_tokens(load: Callable[..., Any]) -> None:
    base, some = load(), rows(5)
    total, tokens = 0.0, 0
    for example in encode_rows(base.tokenizer, some, 256):  # one row at a time, from the full logits
        logits = base.model(torch.tensor([example.input_ids])).logits[0, :-1]
        targets = torch.tensor(example.labels[1:])
        chances = torch.log_softmax(logits, dim=-1)
        for place in (targets != -100).nonzero().flatten().tolist():
            total -= float(chances[place, targets[place]])
            tokens += 1
    found = answer_perplexity(base.model, base.tokenizer, some, batch_size=2)
    assert found.tokens == tokens
    assert found.rows == 5
    assert found.value == pytest.approx(math.exp(total / tokens), rel=1e-12)


def test_batches_and_dropout_change_nothing(load: Callable[..., Any]) -> None:
    base, some = load(), rows(7)
    alone = answer_perplexity(base.model, base.tokenizer, some, batch_size=1)
    assert answer_perplexity(base.model.train(), base.tokenizer, some, batch_size=7).loss == pytest.approx(
        alone.loss, rel=1e-12
    )
    assert base.model.training


def test_a_model_that_knows_nothing_has_the_vocabulary_as_perplexity(load: Callable[..., Any]) -> None:
    base = load()
    with torch.no_grad():
        base.model.get_output_embeddings().weight.zero_()
    found = answer_perplexity(base.model, base.tokenizer, rows(3))
    assert found.value == pytest.approx(base.model.config.vocab_size, rel=1e-12)


def test_without_rows_there_is_nothing_to_measure(load: Callable[..., Any]) -> None:
    base = load()
    with pytest.raises(InvalidRequest) as error:
        answer_perplexity(base.model, base.tokenizer, [])
    assert error.value.param == "rows"


def test_a_broken_model_has_no_finite_perplexity_and_falls_through_the_floor() -> None:
    good = Perplexity(2.0, 10, 1)
    for loss in (math.nan, math.inf, 5000.0):
        broken = Perplexity(loss, 10, 1)
        assert broken.value == math.inf
        assert broken.to_dict()["perplexity"] is None
        assert WritingFloor().failures(broken, good, 100.0) == ["perplexity"]
        assert WritingFloor().failures(broken, broken, 100.0) == ["perplexity"]


def test_the_floor_is_relative_for_perplexity_and_absolute_for_coherence() -> None:
    floor, reference = WritingFloor(perplexity_factor=2.0, coherence=90.0), Perplexity(math.log(10), 1, 1)
    at, above = Perplexity(math.log(19.9), 1, 1), Perplexity(math.log(20.1), 1, 1)
    assert floor.failures(at, reference, 90.0) == []
    assert floor.failures(above, reference, 90.0) == ["perplexity"]
    assert floor.failures(at, reference, 89.9) == ["coherence"]
    assert floor.failures(above, reference, math.nan) == ["perplexity", "coherence"]


@pytest.mark.parametrize(
    ("field", "value"), [("perplexity_factor", 0.9), ("perplexity_factor", math.nan), ("coherence", 101)]
)
def test_an_impossible_floor_is_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest) as error:
        WritingFloor(**{field: value})
    assert error.value.param == field


def test_coherence_names_what_failed() -> None:
    good = ("How do I bake bread?", "Mix flour and water, then wait for an hour and bake it.")
    found = coherent_share([good, ("Why?", ""), ("Why?", "no no no no"), good])
    assert (found["percent"], found["coherent"]) == (50.0, 2)
    assert found["faults"] == {"empty": 1, "repeating": 1}
