from collections.abc import Callable
from typing import Any

import pytest
import torch

from tvaccine_core.evaluation.generation import prompt_ids
from tvaccine_core.metrics.answering import greedy, sampled

ASKED = ["What is the capital of France?", "Hi", "one two three four five six seven eight nine ten"]


@pytest.fixture
def base(tiny_base: Callable[[str], Any]) -> Any:
    from tvaccine_core.models.base import load_base

    return load_base(str(tiny_base("llama")), dtype="float32", device="cpu")


def test_sampling_repeats_itself_for_a_seed_and_leaves_the_generators_alone(base: Any) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = sampled(base.model, base.tokenizer, seed=1)(ASKED, 8)
    assert torch.equal(torch.rand(3), expected)
    assert sampled(base.model, base.tokenizer, seed=1)(ASKED, 8) == first
    assert sampled(base.model, base.tokenizer, seed=2)(ASKED, 8) != first
    assert greedy(base.model, base.tokenizer)(ASKED, 8) != first


def test_the_models_own_sampling_settings_do_not_count(base: Any) -> None:
    expected = sampled(base.model, base.tokenizer, seed=1)(ASKED, 8)
    own = base.model.generation_config
    own.top_k, own.top_p, own.temperature, own.repetition_penalty = 1, 0.1, 0.1, 5.0
    assert sampled(base.model, base.tokenizer, seed=1)(ASKED, 8) == expected


def test_tokens_come_up_as_often_as_the_model_thinks(base: Any) -> None:
    """The first token of 4,000 answers, against the whole distribution: nothing is cut off and nothing sharpened."""
    with torch.no_grad():
        base.model.get_output_embeddings().weight.mul_(0.3)  # a long tail
    ids = torch.tensor([prompt_ids(base.tokenizer, "Hi")])
    chances = torch.softmax(base.model(ids).logits[0, -1].double(), dim=-1)
    drawn = sampled(base.model, base.tokenizer, seed=3, batch_size=500)(["Hi"] * 4000, 1)
    texts = [base.tokenizer.decode([token], skip_special_tokens=True).strip() for token in range(len(chances))]
    clear = [token for token in chances.topk(10).indices.tolist() if texts[token] and texts.count(texts[token]) == 1]
    assert len(clear) >= 3  # of some tokens nothing shows in a text
    for token in clear:
        share, chance = drawn.count(texts[token]) / 4000, float(chances[token])
        assert abs(share - chance) < 5 * (chance * (1 - chance) / 4000) ** 0.5
    assert len(set(drawn)) > 0.25 * len(chances)
