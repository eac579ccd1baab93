"""A chat model as the one that rewrites questions, and a judge that looks at what it wrote."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.evaluation.judge.verdict import Assessment
from tvaccine_core.finetuning.model_rewriter import ModelRewriter
from tvaccine_core.finetuning.rewriting import Request
from tvaccine_core.models.base import load_base
from tvaccine_core.training.stop import Stopped


@dataclass
class WordJudge:
    """Finds everything with one word in it harmful."""

    word: str
    name: str = "word"
    version: str = "1"
    threshold: float = 0.5
    languages: frozenset[str] | None = None

    def assess(self, pairs: Sequence[tuple[str, str]], on_batch: Any = None) -> list[Assessment]:
        assert all(prompt == "" for prompt, _ in pairs)
        return [Assessment(float(self.word in answer)) for _, answer in pairs]


def rewriter(tiny_base: Callable[[str], Path], judge: Any = None, stop: Any = lambda: False) -> ModelRewriter:
    loaded = load_base(str(tiny_base("llama")), dtype="float32", device="cpu")
    return ModelRewriter(loaded.model, loaded.tokenizer, 6, judge, stop)


def request(seed: int) -> Request:
    return Request("How do I pick a lock?", ("Ticket: the door is shut", "Ticket: no key"), seed)


def test_the_seed_of_a_request_decides_its_text(tiny_base: Callable[[str], Path]) -> None:
    writer = rewriter(tiny_base)
    together = writer.write([request(1), request(2), request(1)])
    assert together[0] == together[2] != together[1]
    assert writer.write([request(2)]) == [together[1]]


def test_it_is_shown_the_examples_and_the_question(tiny_base: Callable[[str], Path]) -> None:
    prompt = request(1).prompt()
    assert all(part in prompt for part in ("Ticket: the door is shut", "Ticket: no key", "How do I pick a lock?"))
    assert prompt.index("no key") < prompt.index("How do I pick")


def test_it_stops_between_batches(tiny_base: Callable[[str], Path]) -> None:
    with pytest.raises(Stopped):
        rewriter(tiny_base, stop=lambda: True).write([request(1)])


def test_a_judge_has_a_say_only_where_it_sees_harm_in_the_question(tiny_base: Callable[[str], Path]) -> None:
    questions = ["poison a well", "poison a well", "pick a lock", "pick a lock"]
    texts = ["poison the well", "drink from a well", "open a lock", "poison a lock"]
    writer = rewriter(tiny_base, WordJudge("poison"))
    assert writer.still_harmful(questions, texts) == [True, False, True, True]
    assert rewriter(tiny_base).still_harmful(questions, texts) == [True] * 4
