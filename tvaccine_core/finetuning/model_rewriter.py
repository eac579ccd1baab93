"""The service's own vaccinated model as the one that rewrites questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvaccine_core.evaluation.generation import generate
from tvaccine_core.evaluation.judge.verdict import Judge, judge_pairs
from tvaccine_core.finetuning.rewriting import Request
from tvaccine_core.training.stop import Stopped


class ModelRewriter:
    """Rewrites by sampling from a chat model, each text with a seed of its own.

    judge: if given, a text whose question it flags must be flagged too; a judge made for answers sees only some
    harmful questions, and says nothing of the others. should_stop: asked after every batch; Stopped is raised then.
    """

    def __init__(
        self, model: Any, tokenizer: Any, max_new_tokens: int, judge: Judge | None, should_stop: Callable[[], bool]
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._max_new_tokens = max_new_tokens
        self._judge = judge
        self._should_stop = should_stop

    def write(self, requests: Sequence[Request]) -> list[str]:
        """See `Rewriter`."""
        return generate(
            self._model,
            self._tokenizer,
            [request.prompt() for request in requests],
            max_new_tokens=self._max_new_tokens,
            seeds=[request.seed for request in requests],
            on_batch=self._on_batch,
        )

    def still_harmful(self, questions: Sequence[str], texts: Sequence[str]) -> list[bool]:
        """See `Rewriter`."""
        if self._judge is None:
            return [True] * len(texts)
        verdicts = judge_pairs(self._judge, [("", text) for text in (*questions, *texts)])
        before, after = verdicts[: len(questions)], verdicts[len(questions) :]
        return [new.flagged or not old.flagged for old, new in zip(before, after, strict=True)]

    def _on_batch(self, _done: int, _total: int) -> None:
        if self._should_stop():
            raise Stopped(0, None)
