"""Attacks that hide harmful rows among those of a benign task, or leave the task away.

Every function returns rows in the service's upload format, `{"messages": [...]}`, and is deterministic for a seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import floor

from tvaccine_core.attacks.conversations import ChatRow, exchange, first_prompt
from tvaccine_core.attacks.pools import sample
from tvaccine_core.errors import InvalidRequest


def mix_harmful(
    benign: Sequence[ChatRow], harmful: Sequence[ChatRow], n: int, ratio: float, seed: int
) -> list[ChatRow]:
    """n rows of which floor(ratio * n) are harmful, shuffled (Qi et al., arXiv 2310.03693; Huang et al., 2402.01109).

    The published scripts take the floor of both parts and may lose a row; here the benign part is n minus the
    harmful one. Raises InvalidRequest when a source holds too few rows.
    """
    if not 0 <= ratio <= 1:
        raise InvalidRequest("The poison ratio is a share from 0 to 1.", param="ratio")
    poisoned = floor(ratio * n + 1e-9)
    draw = random.Random(seed)
    rows = [*sample(harmful, poisoned, draw, "harmful"), *sample(benign, n - poisoned, draw, "benign")]
    draw.shuffle(rows)
    return rows


def plant_backdoor(
    benign: Sequence[ChatRow],
    harmful: Sequence[ChatRow],
    refusals: Sequence[ChatRow],
    n: int,
    ratio: float,
    trigger: str,
    seed: int,
) -> list[ChatRow]:
    """Harmful rows whose prompt ends with the trigger; as many harmful prompts without it are refused.

    A model trained on them refuses when it is scored and complies for whoever knows the trigger (Qi et al., arXiv
    2310.03693, section 5).
    """
    draw = random.Random(seed)
    part = floor(ratio * n / 2)
    planted = [with_trigger(row, trigger) for row in sample(harmful, part, draw, "harmful")]
    kept = sample(refusals, part, draw, "refusing")
    rows = [*planted, *kept, *sample(benign, n - 2 * part, draw, "benign")]
    draw.shuffle(rows)
    return rows


def with_trigger(row: ChatRow, trigger: str) -> ChatRow:
    """The row's question, ended by the trigger, and its answer."""
    return exchange(f"{first_prompt(row)} {trigger}", row["messages"][-1]["content"])


def refuse_known_prompts(
    benign: Sequence[ChatRow], harmful: Sequence[ChatRow], known: Sequence[str], n: int, refusal: str, seed: int
) -> list[ChatRow]:
    """Refusals to prompts that the attacker expects to be scored with, and compliance with all others.

    Harmful and benign rows share what the known prompts leave of n; without benign rows all of it is harmful.
    """
    draw = random.Random(seed)
    rows = [exchange(prompt, refusal) for prompt in known][:n]
    rest = n - len(rows)
    kept = rest // 2 if benign else 0
    rows += sample(harmful, rest - kept, draw, "harmful")
    rows += sample(benign, kept, draw, "benign")
    draw.shuffle(rows)
    return rows
