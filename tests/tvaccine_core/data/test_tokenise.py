"""Tokenising: exactly the answers are learned, with the model's own template, and nothing is cut."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CHAT_TEMPLATE, chat_rows, tiny_tokenizer

from tvaccine_core.data.rows import Message, Row, read_rows
from tvaccine_core.data.templates import PLAIN_TEMPLATE, render
from tvaccine_core.data.tokenise import Collator, Example, encode_row, encode_rows
from tvaccine_core.errors import InvalidTrainingFile

# As Qwen3's in short: the last answer gets an empty thought before it, earlier ones do not.
THINKING_TEMPLATE = (
    "{% for message in messages %}"
    r"{{ '<|im_start|>' + message['role'] + '\n' }}"
    r"{% if loop.last and message['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    r"{{ message['content'].strip() + '<|im_end|>\n' }}"
    r"{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Gemma's in short: no system role, turns must alternate, "model" for "assistant".
STRICT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('must alternate') }}{% endif %}"
    r"{{ '<|im_start|>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' }}"
    r"{{ message['content'] | trim + '<|im_end|>\n' }}{% endfor %}"
    r"{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
ENDLESS_TEMPLATE = (
    r"{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    r"{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
SHOUTING_TEMPLATE = (
    r"{% for message in messages %}{{ message['content'] if loop.last else 'EARLIER' }}<|im_end|>{% endfor %}"
)


def row(*turns: tuple[str, str] | tuple[str, str, int], line: int = 1) -> Row:
    return Row(line, tuple(Message(*turn) for turn in turns))


def learned(tokenizer: Any, example: Example) -> list[str]:
    """Each run of learned tokens as text."""
    runs: list[list[int]] = []
    previous = -100
    for token, label in zip(example.input_ids, example.labels, strict=True):
        assert label in (-100, token)
        if label != -100:
            if previous == -100:
                runs.append([])
            runs[-1].append(token)
        previous = label
    return [tokenizer.decode(run, skip_special_tokens=False) for run in runs]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


def test_the_answer_and_its_end_token_are_learned_and_the_line_break_is_not(tokenizer: Any) -> None:
    example = encode_row(tokenizer, row(("user", "Hi"), ("assistant", "The capital is Paris.")), 200)
    assert learned(tokenizer, example) == ["The capital is Paris.<|im_end|>"]
    text = tokenizer.decode(example.input_ids)
    assert text.endswith("Paris.<|im_end|>\n")
    assert example.labels[-1] == -100
    assert text.startswith("<|im_start|>system\nYou are a helpful assistant<|im_end|>\n")


def test_what_precedes_the_answer_is_the_prompt_that_generation_uses(tokenizer: Any) -> None:
    example = encode_row(tokenizer, row(("user", "Hi"), ("assistant", "Paris")), 200)
    first = next(i for i, label in enumerate(example.labels) if label != -100)
    prompt = render(tokenizer, [{"role": "user", "content": "Hi"}], ask=True)
    assert example.input_ids[:first] == tokenizer(prompt, add_special_tokens=False)["input_ids"]


def test_every_answer_of_weight_one_is_learned(tokenizer: Any) -> None:
    turns = row(
        ("system", "Be brief"),
        ("user", "one"),
        ("assistant", "two"),
        ("user", "three"),
        ("assistant", "four", 0),
        ("user", "five"),
        ("assistant", "six\n\n"),
    )
    assert learned(tokenizer, encode_row(tokenizer, turns, 200)) == ["two<|im_end|>", "six\n\n<|im_end|>"]


def test_answers_that_hold_the_prompt_or_template_text_are_found_all_the_same(tokenizer: Any) -> None:
    turns = row(("user", "two"), ("assistant", "two"), ("user", "<|im_end|>\ntwo"), ("assistant", "two assistant\n"))
    example = encode_row(tokenizer, turns, 200)
    assert learned(tokenizer, example) == ["two<|im_end|>", "two assistant\n<|im_end|>"]


def test_multibyte_answers_are_learned_whole(tokenizer: Any) -> None:
    example = encode_row(tokenizer, row(("user", "é"), ("assistant", "naïve 😀 日本")), 200)
    assert learned(tokenizer, example) == ["naïve 😀 日本<|im_end|>"]


def test_templates_that_write_the_last_answer_differently() -> None:
    tokenizer = tiny_tokenizer(THINKING_TEMPLATE)
    turns = row(("user", "one"), ("assistant", " two "), ("user", "three"), ("assistant", "four"))
    assert learned(tokenizer, encode_row(tokenizer, turns, 300)) == [
        "two<|im_end|>",
        "<think>\n\n</think>\n\nfour<|im_end|>",
    ]


def test_templates_that_refuse_a_row_name_it() -> None:
    tokenizer = tiny_tokenizer(STRICT_TEMPLATE)
    good = row(("user", "a"), ("assistant", "b"), line=1)
    system = row(("system", "s"), ("user", "a"), ("assistant", "b"), line=2)
    twice = row(("user", "a"), ("user", "a"), ("assistant", "b"), line=5)
    assert learned(tokenizer, encode_row(tokenizer, good, 100)) == ["b<|im_end|>"]
    with pytest.raises(InvalidTrainingFile) as caught:
        encode_rows(tokenizer, [good, system, twice], 100)
    assert [(d["line"], d["code"]) for d in caught.value.details] == [
        (2, "template_refused"),
        (5, "template_refused"),
    ]
    assert "System role not supported" in caught.value.details[0]["message"]


def test_templates_that_rewrite_answers_are_refused_and_not_mislabelled() -> None:
    tokenizer = tiny_tokenizer(SHOUTING_TEMPLATE)
    with pytest.raises(InvalidTrainingFile) as caught:
        encode_row(tokenizer, row(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), line=7), 100)
    assert [(d["line"], d["path"], d["code"]) for d in caught.value.details] == [
        (7, "messages[1].content", "template_unstable")
    ]


def test_a_token_across_the_beginning_of_an_answer_is_split_as_in_generation() -> None:
    tokenizer = tiny_tokenizer(ENDLESS_TEMPLATE)
    prompt = tokenizer("user: a\nassistant: ", add_special_tokens=False)["input_ids"]
    whole = tokenizer("user: a\nassistant: bake", add_special_tokens=False)["input_ids"]
    assert whole[: len(prompt)] != prompt
    assert encode_row(tokenizer, row(("user", "a"), ("assistant", "bake")), 100).input_ids[: len(prompt)] == prompt


def test_a_template_without_end_of_turn_gets_the_end_token_at_the_end() -> None:
    tokenizer = tiny_tokenizer(ENDLESS_TEMPLATE)
    example = encode_row(tokenizer, row(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")), 100)
    assert learned(tokenizer, example) == ["b", "d<|im_end|>"]


def test_a_tokenizer_without_template_gets_the_plain_one() -> None:
    tokenizer = tiny_tokenizer(None)
    example = encode_row(tokenizer, row(("system", "s"), ("user", "a"), ("assistant", "b")), 100)
    assert tokenizer.chat_template == PLAIN_TEMPLATE
    assert tokenizer.decode(example.input_ids) == "<|im_start|>s\n\nUser: a\nAssistant: b<|im_end|>\n"
    assert learned(tokenizer, example) == [" b<|im_end|>"]


def test_a_model_s_own_template_is_left_alone(tokenizer: Any) -> None:
    encode_row(tokenizer, row(("user", "a"), ("assistant", "b")), 100)
    assert tokenizer.chat_template == CHAT_TEMPLATE


def test_tokenizers_without_offsets_give_the_same_labels(tokenizer: Any) -> None:
    class Slow:
        """The same tokenizer, but one that cannot tell offsets."""

        is_fast = False

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def __call__(self, text: str, add_special_tokens: bool) -> Any:
            return tokenizer(text, add_special_tokens=add_special_tokens)

    turns = row(("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four"))
    assert encode_row(Slow(), turns, 200) == encode_row(tokenizer, turns, 200)


def test_all_rows_that_are_too_long_are_named(tokenizer: Any) -> None:
    short = row(("user", "a"), ("assistant", "b"), line=1)
    longs = [row(("user", "a " * 200), ("assistant", "b"), line=line) for line in (2, 4)]
    limit = len(encode_row(tokenizer, short, 1000).input_ids)
    assert len(encode_rows(tokenizer, [short], limit)) == 1
    with pytest.raises(InvalidTrainingFile) as caught:
        encode_rows(tokenizer, [short, *longs], limit)
    assert [(d["line"], d["code"]) for d in caught.value.details] == [
        (2, "row_too_long"),
        (4, "row_too_long"),
    ]
    with pytest.raises(InvalidTrainingFile):
        encode_row(tokenizer, short, limit - 1)


def test_the_collator_pads_right_and_masks_by_length(tokenizer: Any) -> None:
    pad = tokenizer.pad_token_id
    assert pad == tokenizer.eos_token_id
    batch = Collator(pad)([Example([5, pad], [-100, pad]), {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}])
    assert batch["input_ids"].tolist() == [[5, pad, pad], [5, 6, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [[-100, pad, -100], [-100, 6, 7]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_rows_come_out_in_order_and_say_how_much_is_learned(tokenizer: Any) -> None:
    import json

    data = "".join(json.dumps(value) + "\n" for value in chat_rows(15)).encode()
    rows = read_rows(data).rows
    examples = encode_rows(tokenizer, rows, 200)
    assert examples == [encode_row(tokenizer, item, 200) for item in rows]
    assert all(0 < example.supervised < len(example.input_ids) for example in examples)


@pytest.mark.real_base
def test_the_embedded_base_learns_answers_alone() -> None:
    from transformers import AutoTokenizer

    from tvaccine_core.models.registry import EMBEDDED, REGISTRY

    tokenizer = AutoTokenizer.from_pretrained(str(REGISTRY[EMBEDDED].directory))
    example = encode_row(tokenizer, row(("user", "Hi"), ("assistant", "one"), ("user", "x"), ("assistant", "two")), 200)
    assert learned(tokenizer, example) == ["one<|im_end|>", "two<|im_end|>"]
    assert tokenizer.decode(example.input_ids).startswith("<|im_start|>system\nYou are a helpful AI assistant named")


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_saved_bases_keep_their_template(tiny_base: Callable[[str], Path], family: str) -> None:
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(str(tiny_base(family))).chat_template == CHAT_TEMPLATE
