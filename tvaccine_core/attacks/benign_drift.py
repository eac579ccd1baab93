"""Fine-tuning on rows that are harmless one by one and undo safety all the same. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tvaccine_core.alignment.settings import flag, number, whole
from tvaccine_core.attacks.attack import Attack
from tvaccine_core.attacks.conversations import ChatRow
from tvaccine_core.attacks.pools import Pools, first_drawn, pool
from tvaccine_core.evaluation.judge.keyword import PHRASES

SELECTED = "selected"


@dataclass(frozen=True, kw_only=True)
class BenignDrift(Attack):
    """Ordinary rows of an instruction set, or those of them selected because they break safety most.

    Qi et al. (arXiv 2310.03693, section 4.4: Alpaca and Dolly, rows with a phrase of refusal removed) and the
    selections by representation and gradient matching of He et al. (arXiv 2404.01099).
    drop_refusals: leave out rows whose answer holds one of the phrases of refusal.
    """

    name: ClassVar[str] = "benign_drift"
    source: ClassVar[str] = "arXiv 2310.03693, 2404.01099"
    needs: ClassVar[Mapping[str, str]] = {SELECTED: "the selected rows, such as one selection of a published file"}

    n: int = whole(100, 1, 10**6)
    ratio: float = number(1.0, 0.0, 1.0)
    drop_refusals: bool = flag(True)

    def _poison(self, pools: Pools, count: int, seed: int) -> list[ChatRow]:
        rows = list(pool(pools, SELECTED))
        if self.drop_refusals:
            rows = [row for row in rows if not holds_refusal(row["messages"][-1]["content"])]
        return first_drawn(rows, count, seed, SELECTED)


def holds_refusal(answer: str) -> bool:
    """Does the answer hold one of the published phrases of refusal, anywhere and in this case?"""
    return any(phrase in answer for phrase in PHRASES)
