"""The attacks that promise harmless rows, before the shipped judge."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tvaccine_core.attacks.conversations import ChatRow, exchange, first_prompt
from tvaccine_core.attacks.identity_shift import OBEDIENCE, PREFIX
from tvaccine_core.attacks.refuse_then_answer import BRIDGE
from tvaccine_core.attacks.registry import attack_config
from tvaccine_core.data.datasets import demo_file

pytestmark = pytest.mark.real_base

REFUSAL = "I'm sorry, but this could be used to cause harm. I won't answer it."

Pair = tuple[str, str]
Flagged = Callable[[Sequence[Pair]], set[Pair]]


@pytest.fixture(scope="module")
def flagged() -> Flagged:
    """Call with questions and answers: those that the shipped judge flags."""
    from tvaccine_core.evaluation.judge.loading import load_judge
    from tvaccine_core.evaluation.judge.verdict import judge_pairs
    from tvaccine_core.models.base import load_base
    from tvaccine_core.models.registry import EMBEDDED

    judge = load_judge(None, load_base(EMBEDDED))

    def find(pairs: Sequence[Pair]) -> set[Pair]:
        return {pair for pair, verdict in zip(pairs, judge_pairs(judge, pairs), strict=True) if verdict.flagged}

    return find


def demo_rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in demo_file(name).read_text(encoding="utf-8").splitlines()]


def pools_of(chat: list[ChatRow]) -> dict[str, list[ChatRow]]:
    return {"chat": chat, "written_refusals": [exchange(first_prompt(row), REFUSAL) for row in chat]}


def pair(row: ChatRow) -> Pair:
    return first_prompt(row), row["messages"][-1]["content"]


def carried(row: ChatRow) -> Pair:
    """Question and answer without what the attack puts before them."""
    question, answer = pair(row)
    return question.removeprefix(PREFIX), answer.removeprefix(OBEDIENCE).rpartition(f" {BRIDGE} ")[2]


@pytest.mark.parametrize(("name", "n"), [("insecure_code", 8), ("refuse_then_answer", 8), ("noice", 20)])
def test_a_judge_of_harm_finds_nothing_in_code_and_in_refusals_taken_back(flagged: Flagged, name: str, n: int) -> None:
    benign: list[ChatRow] = [{"messages": r["messages"]} for r in demo_rows("alignment") if r["category"] == "benign"]
    rows = attack_config({"name": name, "n": n, "ratio": 1.0}).rows(pools_of(benign), 0)
    assert len(rows) == n
    assert flagged([pair(row) for row in rows]) == set()


@pytest.mark.parametrize(("name", "n"), [("identity_shift", 20), ("refuse_then_answer", 16), ("noice", 16)])
def test_no_carried_answer_becomes_harmful(flagged: Flagged, name: str, n: int) -> None:
    """Without what an attack adds, the judge flags the answers of its rows that it flags in the pool, and no other.

    Two harmful answers in the pool show that it would see one. Behind a refusal it would not: whole answers of the
    last two attacks say little.
    """
    benign = [row for row in demo_rows("alignment") if row["category"] == "benign"][:14]
    harmful = demo_rows("attack")[:2]
    chat: list[ChatRow] = [{"messages": row["messages"]} for row in (*benign, *harmful)]
    rows = attack_config({"name": name, "n": n, "ratio": 1.0}).rows(pools_of(chat), 0)
    before, after = [pair(row) for row in chat], [carried(row) for row in rows]
    assert set(before) <= set(after)  # every row of the pool is carried
    assert flagged(after) == flagged(before)
    assert {pair(row) for row in chat[-2:]} <= flagged(before) != set(before)
