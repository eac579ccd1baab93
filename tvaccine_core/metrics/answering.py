"""Who answers the questions of a metric: a function from conversations to answers, and two for a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tvaccine_core.evaluation.generation import BATCH, Conversation, generate, prompt_ids, stop_ids

Answerer = Callable[[Sequence[Conversation], int], list[str]]
"""(conversations, most new tokens) -> one answer for each conversation, in order."""

ROWS = 32
"""Rows sampled together. Fixed, because a batch shares one generator: another size draws other answers."""


def greedy(model: Any, tokenizer: Any, batch_size: int = BATCH) -> Answerer:
    """Greedy answers in the model's own chat template, batched; see `generate`."""

    def answer(asked: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        return generate(model, tokenizer, asked, max_new_tokens=max_new_tokens, batch_size=batch_size)

    return answer


def sampled(model: Any, tokenizer: Any, seed: int, batch_size: int = ROWS, temperature: float = 1.0) -> Answerer:
    """Answers drawn from the model's whole distribution: top-p 1, no top-k, no repetition penalty.

    The gate's own sampling cuts the tail off, which published rates of rare answers do not. A call draws the same
    answers again for the same seed, conversations and batch size. The global generators are left as they were.
    """

    def answer(asked: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        prompts = [prompt_ids(tokenizer, one) for one in asked]
        stops = stop_ids(model, tokenizer)
        devices = [model.device] if model.device.type == "cuda" else []
        training = model.training
        model.eval()
        answers: list[str] = []
        try:
            with torch.random.fork_rng(devices=devices), torch.inference_mode():
                torch.manual_seed(seed)
                for start in range(0, len(prompts), batch_size):
                    ids, mask = _left_padded(prompts[start : start + batch_size], model.device)
                    written = _draw(model, ids, mask, stops, max_new_tokens, temperature)
                    answers += [tokenizer.decode(row, skip_special_tokens=True).strip() for row in written]
        finally:
            model.train(training)
        return answers

    return answer


def _draw(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, stops: frozenset[int], most: int, temperature: float
) -> list[list[int]]:
    """New token ids of each row of ids (B, T), up to the first stop."""
    # Every switch is set: a model's own generation settings would otherwise fill those left out.
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=True,
        temperature=temperature,
        top_p=1.0,
        top_k=0,
        repetition_penalty=1.0,
        max_new_tokens=most,
        eos_token_id=sorted(stops),
        pad_token_id=min(stops),
    )
    rows = out[:, ids.shape[1] :].tolist()
    return [row[: next((place for place, token in enumerate(row) if token in stops), len(row))] for row in rows]


def _left_padded(prompts: Sequence[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both (B, T); the mask comes from the lengths, since a pad id may be a real token too."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids.to(device), mask.to(device)
