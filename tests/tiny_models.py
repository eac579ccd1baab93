"""Tiny random-weight models of four families with a small tokenizer, saved as model directories.

`load_base(directory)` loads them without a network. Building one takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

START, END = "<|im_start|>", "<|im_end|>"

# As SmolLM2's: every turn ends in END and a line break, and a missing system message is put in.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    r"{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    r"{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    r"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CORPUS = [
    "You are a helpful assistant",
    "system user assistant",
    "How do I bake bread at home? Mix flour, water, salt and yeast, then wait.",
    "I'm sorry, but I can't help with that request.",
    "What is the capital of France? The capital is Paris.",
    "positive negative neutral one two three four five six seven eight nine ten",
]

FAMILIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "llama": lambda c: LlamaConfig(**c, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2": lambda c: Qwen2Config(**c, num_key_value_heads=2),
    "gemma2": lambda c: Gemma2Config(**c, num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=8),
    "opt": lambda c: OPTConfig(
        **{k: v for k, v in c.items() if k != "intermediate_size"}, ffn_dim=64, word_embed_proj_dim=32
    ),
}


def tiny_tokenizer(chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 400 tokens; END is end and pad token at once, as in SmolLM2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|endoftext|>",
        bos_token=START,
        eos_token=END,
        pad_token=END,
        additional_special_tokens=["<|endoftext|>"],
    )
    wrapped.chat_template = chat_template
    return wrapped


def tiny_model(family: str = "llama", *, layers: int = 3, hidden: int = 32, seed: int = 0) -> PreTrainedModel:
    """A random model of the family, in evaluation mode and float32. hidden: a multiple of 4."""
    tokenizer = tiny_tokenizer()
    config = FAMILIES[family](
        {
            "vocab_size": len(tokenizer),
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # With the usual 0.02 all logits are nearly equal and a test would see no difference between models.
        config.initializer_range = config.init_std = 0.2
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def save_tiny_base(directory: Path, family: str = "llama", **kwargs: Any) -> Path:
    """Saves a tiny model and its tokenizer to `directory`, ready for `load_base(str(directory))`."""
    tiny_model(family, **kwargs).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def chat_rows(count: int, *, answer: str = "The capital is Paris.") -> list[dict[str, Any]]:
    """Rows of different lengths in chat form, as plain JSON values."""
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    return [
        {
            "messages": [
                {"role": "user", "content": "What is " + " ".join(words[: 1 + i % 10]) + "?"},
                {"role": "assistant", "content": f"{words[i % 10]}. {answer}"},
            ]
        }
        for i in range(count)
    ]
