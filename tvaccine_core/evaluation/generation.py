"""Answers of a chat model, greedy or sampled, in batches, the same as if each prompt were asked alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.row_cache import closed_up, common_start, row_cache, sliding_window
from tvaccine_core.evaluation.sampling import Picker, pick

Conversation = str | Sequence[dict[str, str]]
"""One user prompt, or the messages so far."""

BATCH = 64
"""Rows answered together at most. On a CPU 64 rows take about a tenth less time an answer than 32."""

TOKENS = 16384
"""Tokens, padding and answers included, that a batch may come to: bounds the memory of long prompts."""

OnBatch = Callable[[int, int], None]


def generate(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Conversation],
    *,
    max_new_tokens: int,
    batch_size: int = BATCH,
    seeds: Sequence[int | None] | None = None,
    on_batch: OnBatch = lambda _done, _total: None,
) -> list[str]:
    """Answer each conversation with the model's own chat template; answers come in the order asked.

    seeds: one for each conversation; None: greedy. A seed makes that answer sampled (temperature 0.7, top-p 0.95) and
    reproducible, whatever else is in the batch.
    batch_size: rows answered together at most, fewer where they would exceed TOKENS. Prompts are sorted by length so
    that a batch holds little padding, and what all prompts of a batch begin with is read once. An answer ends at the
    end-of-turn token or after max_new_tokens. `on_batch(done, total)` is called after every batch; what it raises
    ends the run. Raises InvalidRequest when the tokenizer has no chat template.
    """
    prompts = [prompt_ids(tokenizer, conversation) for conversation in conversations]
    stops = stop_ids(model, tokenizer)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    pickers = [Picker(seed) for seed in seeds or [None] * len(prompts)]
    if len(pickers) != len(prompts):
        raise ValueError(f"{len(pickers)} seeds for {len(prompts)} conversations")
    was_training = model.training
    model.eval()
    try:
        done = 0
        for members in _batches(order, [len(prompt) + max_new_tokens for prompt in prompts], batch_size):
            chosen = [pickers[i] for i in members]
            written = _generate_batch(model, [prompts[i] for i in members], chosen, stops, max_new_tokens)
            for index, ids in zip(members, written, strict=True):
                answers[index] = tokenizer.decode(ids, skip_special_tokens=True).strip()
            done += len(members)
            on_batch(done, len(order))
    finally:
        model.train(was_training)
    return answers


def prompt_ids(tokenizer: Any, conversation: Conversation) -> list[int]:
    """Token ids of the conversation in the chat template, up to where the assistant's answer begins."""
    if not getattr(tokenizer, "chat_template", None):
        raise InvalidRequest("This model has no chat template; use an instruction-tuned base.", param="model")
    asked = isinstance(conversation, str)
    messages = [{"role": "user", "content": conversation}] if asked else list(conversation)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end an answer:

    the end-of-sequence ids and the token that the chat template puts after an answer.
    """
    declared = model.generation_config.eos_token_id
    found = {tokenizer.eos_token_id, *(declared if isinstance(declared, list) else [declared])}
    marker = "answer"
    turn = [{"role": "user", "content": "question"}, {"role": "assistant", "content": marker}]
    text = tokenizer.apply_chat_template(turn, tokenize=False)
    after = tokenizer(text[text.rindex(marker) + len(marker) :], add_special_tokens=False)["input_ids"]
    if after and after[0] in tokenizer.all_special_ids:
        found.add(after[0])
    return frozenset(found - {None})


def _batches(order: Sequence[int], lengths: Sequence[int], rows: int) -> Iterator[list[int]]:
    """Parts of `order` (rows by rising length) of at most `rows` rows and TOKENS tokens, but at least one row."""
    members: list[int] = []
    for index in order:
        if members and (len(members) == rows or (len(members) + 1) * lengths[index] > TOKENS):
            yield members
            members = []
        members.append(index)
    if members:
        yield members


@torch.inference_mode()
def _generate_batch(
    model: Any, prompts: list[list[int]], pickers: list[Picker], stops: frozenset[int], max_new_tokens: int
) -> list[list[int]]:
    """Token ids of the answers to one batch.

    Rows that are done leave it: one rambling answer does not cost as much as the whole batch.
    """
    written: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    reader = _Reader(model, prompts, max_new_tokens)
    logits = reader.read(*reader.start(prompts))
    for left in range(max_new_tokens - 1, -1, -1):
        tokens = pick(logits, [pickers[row] for row in alive]).tolist()
        going = [place for place, token in enumerate(tokens) if token not in stops]
        for place in going:
            written[alive[place]].append(tokens[place])
        if not going or not left:
            break
        if len(going) < len(alive):
            going = closed_up(going)
            reader.keep(going)
            alive, tokens = [alive[place] for place in going], [tokens[place] for place in going]
        logits = reader.read_tokens(tokens)
    return written


class _Reader:
    """Reads a batch of texts token by token into the model's cache and tells the logits of what comes next."""

    def __init__(self, model: Any, prompts: list[list[int]], max_new_tokens: int) -> None:
        self._model = model
        self._accepted = _accepted(model)
        longest = max(len(prompt) for prompt in prompts) + max_new_tokens
        self._cache: Any = row_cache(model, len(prompts), longest)
        self._may_share = self._cache is not None and longest <= sliding_window(model)
        self._mask = torch.zeros(1, 0, dtype=torch.long, device=model.device)

    def start(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Reads what all prompts have in common, for one row; what is left of them, padded on the left: ids and mask.

        Padding between the common start and the rest would shorten a sliding window: then nothing is shared.
        """
        common = common_start(prompts) if self._may_share and len(prompts) > 1 else 0
        if common:
            ids = torch.tensor([prompts[0][:common]], device=self._model.device)
            self.read(ids, torch.ones_like(ids))
            for layer in self._cache.layers:
                layer.spread()
        self._mask = self._mask.expand(len(prompts), common)
        return _left_padded([prompt[common:] for prompt in prompts], self._model.device)

    def read(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Reads (B, t) ids, of which the mask counts those that are 1; logits (B, V) of what comes after them."""
        self._mask = torch.cat([self._mask, mask], dim=1)
        positions = (self._mask.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        extra = {name: value for name, value in _extras(positions).items() if name in self._accepted}
        out = self._model(
            input_ids=ids, attention_mask=self._mask, past_key_values=self._cache, use_cache=True, **extra
        )
        self._cache = out.past_key_values
        return out.logits[:, -1]

    def read_tokens(self, tokens: list[int]) -> torch.Tensor:
        """Reads one token a row."""
        ids = torch.tensor(tokens, device=self._model.device)[:, None]
        return self.read(ids, torch.ones_like(ids))

    def keep(self, places: list[int]) -> None:
        """Row i becomes the former row places[i]; the others leave."""
        indices = torch.tensor(places, device=self._model.device)
        self._cache.batch_select_indices(indices)
        self._mask = self._mask[indices]


def _left_padded(prompts: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both (B, T). The mask comes from the lengths, since a pad id may also be a real token."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _extras(positions: torch.Tensor) -> dict[str, Any]:
    """Arguments that most models take: positions that skip the padding, and logits of the last place only.

    The place is given as an index and not as a count: indexing copies the states it picks, whereas a slice
    of them makes PyTorch copy the output matrix once for every row (a third of the time of a whole batch on
    a CPU).
    """
    last = torch.tensor([-1], device=positions.device)
    return {"position_ids": positions, "logits_to_keep": last}


def _accepted(model: Any) -> frozenset[str]:
    """Names of the arguments that the model under any adapters takes."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return frozenset(inspect.signature(inner.forward).parameters)
