"""Pairs of a harmful and a safe answer to the same prompt, found in the two files of an alignment run. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tvaccine_core.alignment.prompts import PromptKey, answer_of, context_of, prompt_key
from tvaccine_core.data.rows import Message, Row
from tvaccine_core.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows with the same messages but for the last answer."""

    harmful: Row
    safe: Row


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pairs, and the alignment rows that no harmful row asks for."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Row, ...]


def pair_rows(alignment: Sequence[Row], harmful: Sequence[Row], refusal: str | None) -> Pairing:
    """Pair every harmful row with an alignment row to the same prompt (see `prompt_key`).

    Where a prompt has h harmful and s safe answers there are max(h, s) pairs, the shorter list used again from its
    start. Both rows of a pair get the harmful row's own words before the answer, so that they differ in nothing else.
    refusal: the safe answer to harmful prompts without an alignment row; None leaves them out.
    Raises InvalidRequest if no pair is found.
    """
    asked, answered = _by_prompt(harmful), _by_prompt(alignment)
    pairs = [pair for key, rows in asked.items() for pair in _pairs(rows, answered.get(key, []), refusal)]
    if not pairs:
        raise InvalidRequest(
            "No harmful row asks what an alignment row answers, so there are no pairs. Give both answers to the same "
            "prompts, or set unpaired to 'refuse'.",
            param="harmful_file",
        )
    rest = [row for key, rows in answered.items() if key not in asked for row in rows]
    return Pairing(tuple(pairs), tuple(sorted(rest, key=lambda row: row.line)))


def _by_prompt(rows: Sequence[Row]) -> dict[PromptKey, list[Row]]:
    found: dict[PromptKey, list[Row]] = defaultdict(list)
    for row in rows:
        found[prompt_key(row)].append(row)
    return found


def _pairs(harmful: list[Row], safe: list[Row], refusal: str | None) -> list[Pair]:
    if safe:
        answers = [answer_of(row) for row in safe]
    elif refusal is not None:
        answers = [Message("assistant", refusal)]
    else:
        return []
    count = max(len(harmful), len(answers))
    return [_pair(harmful[i % len(harmful)], answers[i % len(answers)]) for i in range(count)]


def _pair(harmful: Row, answer: Message) -> Pair:
    context = context_of(harmful)
    return Pair(Row(harmful.line, (*context, answer_of(harmful))), Row(harmful.line, (*context, answer)))
