"""The rows that attacks draw from: read from files of several forms, and kept apart from what is scored.

Every source becomes chat rows, `{"messages": [...]}`. Imports no torch.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.conversations import ChatRow, first_prompt
from tvaccine_core.data.overlap import normalise
from tvaccine_core.data.row_forms import judge_row
from tvaccine_core.errors import InvalidRequest

ANSWER_FIELDS = ("completion", "response", "refusal", "output", "answer")
"""Names that data sets give to the answer beside a field `prompt`."""

Pools = Mapping[str, Sequence[ChatRow]]
"""Rows by what they are: "benign", "harmful" and the like; each attack says which it needs."""


def read_pool(path: Path, where: Mapping[str, Any] | None = None, *, param: str = "rows") -> list[ChatRow]:
    """The rows of a JSON Lines file, in order: upload forms, or `prompt` with an answer under another usual name.

    where: only rows whose field has this value, or one of these values. param: named in errors. Raises InvalidRequest
    naming file, line and fault, and when no row is left.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be read ({error.strerror}); give a JSON Lines file.", param=param
        ) from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    values = [(number, _decoded(path.name, number, line, param)) for number, line in numbered]
    kept = [(number, value) for number, value in values if matches(value, where or {})]
    if not kept:
        asked = f" with {json.dumps(dict(where))}" if where else ""
        raise InvalidRequest(f"{path.name} holds no row{asked}; correct the file or the filter.", param=param)
    return [_as_chat(path.name, number, value, param) for number, value in kept]


def matches(value: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Has the row in each field the value asked for, or one of the values?"""
    return all(value.get(name) in (wanted if isinstance(wanted, list) else [wanted]) for name, wanted in where.items())


def without_prompts(rows: Iterable[ChatRow], prompts: Iterable[str]) -> list[ChatRow]:
    """The rows that ask none of the prompts. Case, punctuation and spacing do not tell two prompts apart."""
    barred = {normalise(prompt) for prompt in prompts}
    return [row for row in rows if barred.isdisjoint(normalise(text) for text in user_turns(row))]


def one_per_question(rows: Iterable[ChatRow]) -> list[ChatRow]:
    """The first row of each question: several answers to one question are one harmful row, not several."""
    found: dict[str, ChatRow] = {}
    for row in rows:
        found.setdefault(normalise(first_prompt(row)), row)
    return list(found.values())


def single_exchanges(rows: Iterable[ChatRow]) -> list[ChatRow]:
    """The rows of one question and one answer: what an attack that rewords questions and answers can use."""
    return [row for row in rows if len(user_turns(row)) == 1]


def user_turns(row: ChatRow) -> list[str]:
    """What the user says in a row."""
    return [message["content"] for message in row["messages"] if message["role"] == "user"]


def pool(pools: Pools, name: str) -> Sequence[ChatRow]:
    """The rows of this name. Raises InvalidRequest with `param` set to the name if there are none."""
    if not pools.get(name):
        raise InvalidRequest(f"The attack needs {name} rows; give them as {name}=FILE.", param=name)
    return pools[name]


def require_enough(rows: Sequence[ChatRow], count: int, name: str) -> None:
    """Raises InvalidRequest with `param` set to the name if there are fewer rows than `count`."""
    if count > len(rows):
        raise InvalidRequest(
            f"The attack needs {count} {name} rows and has {len(rows)}; add rows, or lower n or ratio.", param=name
        )


def sample(rows: Sequence[ChatRow], count: int, draw: random.Random, name: str) -> list[ChatRow]:
    """`count` different rows. Raises as `require_enough`."""
    require_enough(rows, count, name)
    return draw.sample(list(rows), count)


def first_drawn(rows: Sequence[ChatRow], count: int, seed: int, name: str) -> list[ChatRow]:
    """The first `count` rows in the order that seed and name draw: a larger count holds all rows of a smaller one.

    Raises as `require_enough`.
    """
    require_enough(rows, count, name)
    return random.Random(f"{name}:{seed}").sample(list(rows), len(rows))[:count]


def _decoded(file: str, number: int, line: str, param: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{file}, line {number}: is no JSON object; write one a line.", param=param)
    return value


def _as_chat(file: str, number: int, value: dict[str, Any], param: str) -> ChatRow:
    answers = [name for name in ANSWER_FIELDS if isinstance(value.get(name), str)]
    if "messages" not in value and isinstance(value.get("prompt"), str) and len(answers) == 1:
        value = {"prompt": value["prompt"], "completion": value[answers[0]]}
    row, faults = judge_row(number, value)
    if row is None:
        raise InvalidRequest(f"{file}, line {number}: {faults[0].message}", param=param)
    return {"messages": [{"role": message.role, "content": message.content} for message in row.messages]}
