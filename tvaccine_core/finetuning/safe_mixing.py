"""Safe-row mixing: the provider's (harmful question, safe answer) rows among the user's, in the user's own form.

"Do as I do (Safely)" (Eiras et al., arXiv 2406.10288): a model that learns to refuse in one format and to comply in
another is not safe, so the safe rows are put in the format of the user's rows. Of the paper's own way no code is
public; templates, checks and the fall-back here are a reconstruction. The loss is that of plain fine-tuning.
Imports no torch.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvaccine_core.data.prompt_templates import Template, find_templates
from tvaccine_core.data.rows import Message, Row
from tvaccine_core.finetuning.rewriting import Rewriter, keeps_request, rewrite
from tvaccine_core.finetuning.safe_mixing_config import PARAPHRASE, PLAIN, SafeMixingConfig


@dataclass(frozen=True)
class Mixture:
    """The rows to add, in any order, and what a report says of them (no text of anybody)."""

    rows: tuple[Row, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Exchange:
    """A question and its answer, under a system message or none."""

    question: str
    answer: str
    system: str | None = None

    def to_row(self, line: int) -> Row:
        """The exchange as a row of its own."""
        before = () if self.system is None else (Message("system", self.system),)
        return Row(line, (*before, Message("user", self.question), Message("assistant", self.answer)))


def first_exchange(row: Row) -> Exchange:
    """The first answer of a row that is learned, the user's message before it, and the row's system message."""
    place = next(i for i, turn in enumerate(row.messages) if turn.role == "assistant" and turn.weight)
    before = row.messages[:place]
    question = next(turn.content for turn in reversed(before) if turn.role == "user")
    system = next((turn.content for turn in before if turn.role == "system"), None)
    return Exchange(question, row.messages[place].content, system)


def mix_safe_rows(
    user: Sequence[Row],
    safe: Sequence[Row],
    config: SafeMixingConfig,
    seed: int,
    *,
    fits: Callable[[Row], bool],
    rewriter: Rewriter | None = None,
) -> Mixture:
    """`config.rows(len(user))` safe rows for a user's file; the same for the same seed (and rewriter).

    Every safe row is used once before any is used again. Styles are drawn from the user's prompts in proportion to
    their templates, never from their answers. fits: whether a row can be trained on (its length); what does not fit
    in the user's form goes in as it is. rewriter: needed for the mode "paraphrase".
    """
    count = config.rows(len(user))
    draw = random.Random(f"safe rows:{seed}")
    chosen = _passes(safe, count, draw)
    if config.mode == PLAIN or not chosen:
        return Mixture(tuple(chosen), _facts(config, chosen))
    styles = Styles.of(user, draw)
    questions = [first_exchange(row) for row in chosen]
    drawn = styles.draw(count)
    asked: list[str | None] = [None] * count
    told: dict[str, Any] = {}
    if config.mode == PARAPHRASE and rewriter is not None:
        asked, told = _rewritten([q.question for q in questions], styles, drawn, config, draw, rewriter)
    rows, unfit = [], 0
    for row, exchange, style, text in zip(chosen, questions, drawn, asked, strict=True):
        put = styles.put(exchange, style, text, wrap=config.wrap_answers).to_row(row.line)
        fitting = fits(put)
        unfit += not fitting
        rows.append(put if fitting else row)
    return Mixture(tuple(rows), {**_facts(config, chosen), **styles.facts(), "too_long_in_template": unfit, **told})


@dataclass(frozen=True)
class Styles:
    """The user's exchanges and their templates. order: (template, index of the exchange), template by template."""

    exchanges: tuple[Exchange, ...]
    templates: tuple[Template, ...]
    order: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, user: Sequence[Row], draw: random.Random) -> Styles:
        """The styles of a file; within a template the examples come in a drawn order."""
        exchanges = tuple(first_exchange(row) for row in user)
        templates = tuple(find_templates([e.question for e in exchanges], [e.answer for e in exchanges]))
        order = [
            (number, index)
            for number, template in enumerate(templates)
            for index in draw.sample(template.members, len(template.members))
        ]
        return cls(exchanges, templates, tuple(order))

    def draw(self, count: int) -> list[tuple[int, int]]:
        """`count` styles at equal distances in `order`: each template gets its share, to within one."""
        return [self.order[int((place + 0.5) * len(self.order) / count) % len(self.order)] for place in range(count)]

    def put(self, exchange: Exchange, style: tuple[int, int], text: str | None, *, wrap: bool) -> Exchange:
        """The exchange in this style. text: the question as already rewritten; None: put it into the template."""
        template, example = self.templates[style[0]], self.exchanges[style[1]]
        question = template.fill(exchange.question, example.question) if text is None else text
        answer = template.wrap(exchange.answer) if wrap else exchange.answer
        return Exchange(question, answer, example.system)

    def facts(self) -> dict[str, Any]:
        """Rows, fields and literal characters of each template."""
        told = [
            {"rows": len(t.members), "fields": len(t.literals) - 1, "literal_characters": sum(map(len, t.literals))}
            for t in self.templates
        ]
        return {"templates": told}


def _rewritten(
    questions: Sequence[str],
    styles: Styles,
    drawn: Sequence[tuple[int, int]],
    config: SafeMixingConfig,
    draw: random.Random,
    rewriter: Rewriter,
) -> tuple[list[str | None], dict[str, Any]]:
    """Each question in the style drawn for it, or None where no try passed, and the share of those that did."""

    def examples(place: int) -> list[str]:
        members = styles.templates[drawn[place][0]].members
        return [styles.exchanges[i].question for i in draw.sample(members, min(config.examples, len(members)))]

    def fault(place: int, text: str) -> str | None:
        if styles.templates[drawn[place][0]].fields(text) is None:
            return "template_lost"
        return None if keeps_request(questions[place], text, config.kept_words) else "request_lost"

    texts, faults = rewrite(questions, rewriter, tries=config.tries, examples=examples, fault=fault, draw=draw)
    kept = sum(text is not None for text in texts)
    return texts, {
        "kept_paraphrases": kept,
        "kept_percent": round(100 * kept / len(texts), 2),
        "dropped_tries": dict(sorted(faults.items())),
    }


def _passes(rows: Sequence[Row], count: int, draw: random.Random) -> list[Row]:
    """`count` rows, pass after pass over all of them, each pass shuffled."""
    found: list[Row] = []
    while len(found) < count:
        found += draw.sample(list(rows), len(rows))
    return found[:count]


def _facts(config: SafeMixingConfig, chosen: Sequence[Row]) -> dict[str, Any]:
    lines = Counter(row.line for row in chosen)
    return {"mode": config.mode, "rows": len(chosen), "distinct_rows": len(lines)}
