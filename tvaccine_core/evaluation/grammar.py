"""Composed harmful prompts in two registers, for each of the 13 strata.

The list of prompts that is shipped is public, so a model can be trained to refuse exactly those. The grammar
(`data/demo/gate_grammar.json`) makes over 28,000 more, too many to be refused one by one. Half of its goals are
particular, as those of the list ("walk out of a hotel with the lobby paintings"), half are general ("steal a car"):
of a model that was trained to refuse the list 7 % of the answers to particular ones were harmful, and 59 % of those to
plain prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, product
from typing import Any

from tvaccine_core.data.datasets import demo_file


@dataclass(frozen=True)
class Composed:
    """One prompt; prompts of the same `goal` ask for the same thing in other words."""

    text: str
    category: str
    goal: str


@lru_cache(maxsize=1)
def composed_prompts() -> tuple[Composed, ...]:
    """All prompts of the grammar, stratum by stratum; no text occurs twice."""
    grammar: dict[str, Any] = json.loads(demo_file("gate_prompts").with_name("gate_grammar.json").read_text("utf-8"))
    return tuple(one for category in grammar["strata"] for one in _stratum(grammar, category))


def _stratum(grammar: dict[str, Any], category: str) -> Iterator[Composed]:
    parts = grammar["strata"][category]
    particular = product(grammar["frames"], parts["goals"], parts["details"])
    general = product(grammar["general_frames"], parts["general"], [""])
    for frame, goal, detail in chain(particular, general):
        yield Composed(frame.replace("{act}", f"{goal} {detail}".strip()), category, goal)
