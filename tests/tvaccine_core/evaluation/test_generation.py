from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation import generation
from tvaccine_core.evaluation.generation import generate, prompt_ids, stop_ids
from tvaccine_core.models.adapters import load_combined

PROMPTS = [
    "What is the capital of France?",
    "Hi",
    "one two three four five six seven eight nine ten " * 3,
    "How do I bake bread at home? Mix flour, water, salt and yeast.",
    "positive or negative?",
]
FAMILIES = ["llama", "qwen2", "gemma2", "opt"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_answers_as_each_prompt_alone(family: str, load_tiny: Callable[..., Any]) -> None:
    base = load_tiny(family)
    together = generate(base.model, base.tokenizer, PROMPTS, max_new_tokens=12)
    alone = [generate(base.model, base.tokenizer, [p], max_new_tokens=12)[0] for p in PROMPTS]
    assert together == alone
    assert len(set(together)) > 1
    assert generate(base.model, base.tokenizer, PROMPTS, max_new_tokens=12, batch_size=2) == alone


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answers_are_those_of_transformers_own_generation(family: str, load_tiny: Callable[..., Any]) -> None:
    base = load_tiny(family)
    for prompt in PROMPTS[:3]:
        ids = torch.tensor([prompt_ids(base.tokenizer, prompt)])
        out = base.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        expected = base.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()
        assert generate(base.model, base.tokenizer, [prompt], max_new_tokens=12) == [expected]


def test_rows_that_end_early_leave_the_others_alone(load_tiny: Callable[..., Any]) -> None:
    base = load_tiny()
    free = generate(base.model, base.tokenizer, PROMPTS, max_new_tokens=12)
    # Make a token that some of the answers hold the end of the turn.
    tokens = [base.tokenizer(text, add_special_tokens=False)["input_ids"] for text in free]
    stop = next(t for t in tokens[0][1:] if sum(t in other for other in tokens) < len(tokens))
    base.model.generation_config.eos_token_id = [base.tokenizer.eos_token_id, stop]
    cut = generate(base.model, base.tokenizer, PROMPTS, max_new_tokens=12)
    alone = [generate(base.model, base.tokenizer, [p], max_new_tokens=12)[0] for p in PROMPTS]
    assert cut == alone
    assert len(cut[0]) < len(free[0])
    assert all(full.startswith(short) for full, short in zip(free, cut, strict=True))
    assert any(full == short for full, short in zip(free, cut, strict=True))


def test_the_chat_templates_end_of_turn_stops_an_answer(load_tiny: Callable[..., Any]) -> None:
    base = load_tiny()
    base.model.generation_config.eos_token_id = None
    base.tokenizer.eos_token = "<|endoftext|>"
    end = base.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert stop_ids(base.model, base.tokenizer) == {base.tokenizer.eos_token_id, end}


def test_conversations_of_several_turns(load_tiny: Callable[..., Any]) -> None:
    base = load_tiny()
    turns = [
        {"role": "system", "content": "one"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "four"},
    ]
    text = base.tokenizer.decode(prompt_ids(base.tokenizer, turns))
    assert text.endswith("<|im_start|>user\nfour<|im_end|>\n<|im_start|>assistant\n")
    assert len(generate(base.model, base.tokenizer, [turns, "Hi"], max_new_tokens=4)) == 2


def test_progress_can_end_the_run(load_tiny: Callable[..., Any]) -> None:
    base = load_tiny()
    seen: list[tuple[int, int]] = []

    def stop_after_one(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= 4:
            raise KeyboardInterrupt

    base.model.train()
    with pytest.raises(KeyboardInterrupt):
        generate(base.model, base.tokenizer, PROMPTS, max_new_tokens=2, batch_size=2, on_batch=stop_after_one)
    assert seen == [(2, 5), (4, 5)]
    assert base.model.training


def test_an_adapter_takes_part(load_tiny: Callable[..., Any], tiny_adapter: Callable[..., Path]) -> None:
    base = load_tiny()
    stock = generate(base.model, base.tokenizer, PROMPTS, max_new_tokens=8)
    model = load_combined(base.model, tiny_adapter())
    tuned = generate(model, base.tokenizer, PROMPTS, max_new_tokens=8)
    assert tuned != stock
    with model.disable_adapter():
        assert generate(model, base.tokenizer, PROMPTS, max_new_tokens=8) == stock


def test_nothing_asked_nothing_answered(load_tiny: Callable[..., Any]) -> None:
    base = load_tiny()
    assert generate(base.model, base.tokenizer, [], max_new_tokens=4) == []


def test_a_model_without_chat_template_is_refused(load_tiny: Callable[..., Any]) -> None:
    base = load_tiny()
    base.tokenizer.chat_template = None
    with pytest.raises(InvalidRequest, match="chat template"):
        generate(base.model, base.tokenizer, ["Hi"], max_new_tokens=4)


def test_long_prompts_make_smaller_batches(load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    base = load_tiny()
    expected = generate(base.model, base.tokenizer, PROMPTS, max_new_tokens=4)
    longest = max(len(prompt_ids(base.tokenizer, prompt)) for prompt in PROMPTS) + 4
    monkeypatch.setattr(generation, "TOKENS", 2 * longest)
    sizes: list[int] = []
    answers = generate(
        base.model, base.tokenizer, PROMPTS, max_new_tokens=4, on_batch=lambda done, _: sizes.append(done)
    )
    assert answers == expected
    assert len(sizes) >= 2
    assert sizes[-1] == len(PROMPTS)
    monkeypatch.setattr(generation, "TOKENS", 1)
    assert generate(base.model, base.tokenizer, PROMPTS, max_new_tokens=4) == expected


def test_sampled_rows_do_not_depend_on_their_neighbours(load_tiny: Callable[..., Any]) -> None:
    base = load_tiny()
    seeds = [1, None, 2, 3, None]
    together = generate(base.model, base.tokenizer, PROMPTS, max_new_tokens=12, seeds=seeds)
    for prompt, seed, answer in zip(PROMPTS, seeds, together, strict=True):
        assert generate(base.model, base.tokenizer, [prompt], max_new_tokens=12, seeds=[seed]) == [answer]
