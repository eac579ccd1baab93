"""Alpaca-style rows: instructions without one right answer.

Two figures need no judge: the perplexity of held-out answers, and the coherence of the model's own ones. The third is
the pairwise win rate against reference answers (AlpacaEval, Dubois et al., arXiv 2404.04475), by whatever compares
two answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvaccine_core.data.row_forms import Row
from tvaccine_core.errors import ScoringFailed
from tvaccine_core.metrics.answering import Answerer
from tvaccine_core.metrics.perplexity import answer_perplexity, coherent_share


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt, in the order in which they are shown."""

    prompt: str
    first: str
    second: str


Comparer = Callable[[Sequence[Comparison]], list[float]]
"""For each comparison how far the first answer is preferred: 1 it is, 0 the second is, 0.5 neither."""


def measure_open_answers(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    answer: Answerer,
    *,
    max_new_tokens: int = 200,
    max_length: int = 1024,
) -> dict[str, Any]:
    """Perplexity of the rows' answers (`answer_perplexity`) and coherence of the model's own ones (percent).

    rows: held out, each ending with the assistant's message. Raises as `answer_perplexity`.
    """
    perplexity = answer_perplexity(model, tokenizer, rows, max_length=max_length)
    asked = [[{"role": m.role, "content": m.content} for m in row.messages[:-1]] for row in rows]
    answers = answer(asked, max_new_tokens)
    prompts = [turns[-1]["content"] for turns in asked]
    return {**perplexity.to_dict(), "coherence": coherent_share(list(zip(prompts, answers, strict=True)))}


def win_rate(prompts: Sequence[str], ours: Sequence[str], theirs: Sequence[str], compare: Comparer) -> float:
    """Percentage of prompts on which our answer is preferred, ties counting half; 50 for equals.

    Every pair is shown in both orders and the two preferences are averaged, so that a comparer that likes the first
    place gives 50 (the published scripts show one order only). 0 of no prompts. Raises ScoringFailed unless there is
    one preference in [0, 1] for each comparison.
    """
    triples = list(zip(prompts, ours, theirs, strict=True))
    shown = [Comparison(prompt, a, b) for prompt, a, b in triples] + [Comparison(p, b, a) for p, a, b in triples]
    found = compare(shown)
    if len(found) != len(shown) or not all(0 <= preference <= 1 for preference in found):
        raise ScoringFailed(f"The comparer gave {len(found)} preferences for {len(shown)}, or one outside [0, 1].")
    wins = [(found[i] + 1 - found[i + len(triples)]) / 2 for i in range(len(triples))]
    return 100 * sum(wins) / len(wins) if wins else 0.0
