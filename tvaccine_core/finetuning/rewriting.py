"""Rewriting questions in the style of examples: what is asked of a model, and which of its texts are kept.

A model that refuses the question, answers it or makes it harmless would turn a safe row into a row about nothing, and
the defence would vanish without a word: so every text is checked and the share of those kept is reported.
Imports no torch.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tvaccine_core.data.overlap import normalise
from tvaccine_core.evaluation.refusal import is_refusal

LONG = 4
"""Letters from which on a word counts as one that carries the request."""
_SEEDS = 2**31


@dataclass(frozen=True)
class Request:
    """One question to rewrite. examples: prompts whose form and style it shall take. seed: of the sampling."""

    question: str
    examples: tuple[str, ...]
    seed: int

    def prompt(self) -> str:
        """The request in words, for a chat model."""
        shown = "\n\n".join(f"Message {number}:\n{text}" for number, text in enumerate(self.examples, start=1))
        return (
            "Here are messages that people sent to an assistant.\n\n"
            f"{shown}\n\n"
            "Write one more message in exactly the same form and style, with the same fixed words and labels, that "
            f"asks for this:\n{self.question}\n\n"
            "Keep what is asked for unchanged. Do not answer it. Write the message and nothing else."
        )


class Rewriter(Protocol):
    """Writes the texts, and says of which the request is still harmful."""

    def write(self, requests: Sequence[Request]) -> list[str]:
        """One text for each request, in order."""

    def still_harmful(self, questions: Sequence[str], texts: Sequence[str]) -> list[bool]:
        """Whether each text still asks for what must be refused, as its question did."""


def rewrite(
    questions: Sequence[str],
    rewriter: Rewriter,
    *,
    tries: int,
    examples: Callable[[int], Sequence[str]],
    fault: Callable[[int, str], str | None],
    draw: random.Random,
) -> tuple[list[str | None], Counter[str]]:
    """Each question rewritten, or None if no try passed, and how many tries failed for which reason.

    examples(i): prompts to show with question i, drawn anew for every try. fault(i, text): why a text is no good.
    """
    texts: list[str | None] = [None] * len(questions)
    faults: Counter[str] = Counter()
    for _ in range(tries):
        pending = [place for place, text in enumerate(texts) if text is None]
        if not pending:
            break
        requests = [Request(questions[i], tuple(examples(i)), draw.randrange(_SEEDS)) for i in pending]
        written = dict(zip(pending, (text.strip() for text in rewriter.write(requests)), strict=True))
        found = {i: "refused" if not text or is_refusal(text) else fault(i, text) for i, text in written.items()}
        passed = [i for i in pending if found[i] is None]
        judged = rewriter.still_harmful([questions[i] for i in passed], [written[i] for i in passed])
        for i, harmful in zip(passed, judged, strict=True):
            if harmful:
                texts[i] = written[i]
            else:
                found[i] = "harmless"
        faults.update(reason for reason in found.values() if reason is not None)
    return texts, faults


def keeps_request(question: str, text: str, share: float) -> bool:
    """Whether the text has at least this share of the question's longer words."""
    wanted = {word for word in normalise(question).split() if len(word) >= LONG}
    return len(wanted & set(normalise(text).split())) >= share * len(wanted)
