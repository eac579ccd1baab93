"""What every attack has: settings that check themselves, rows to train on, and a way to ask afterwards.

An attack is a frozen configuration. `rows` makes the training file: floor(ratio * n) rows of the attack, all others
benign rows of the user's task, shuffled. `asked` puts a question as the attacker puts it to the tuned model. Imports
no torch.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import floor
from typing import Any, ClassVar

from tvaccine_core.alignment.settings import number, whole
from tvaccine_core.attacks.conversations import ChatMessage, ChatRow
from tvaccine_core.attacks.pools import Pools, first_drawn, pool, without_prompts
from tvaccine_core.finetuning.checked_settings import CheckedSettings

BENIGN = "benign"
BENIGN_MEANING = "rows of the user's task, for the share that is not attacked"


@dataclass(frozen=True, kw_only=True)
class Attack(CheckedSettings):
    """Base class.

    name: in the registry. source: the paper. needs, takes: rows that must and that may be given, with their meaning.
    n: rows of the training file, 1..1000000. ratio: share of them that is the attack's, 0..1; at 0 nothing of the
    attack is left, and the file is benign fine-tuning.
    """

    subject: ClassVar[str] = "this attack"
    name: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[Mapping[str, str]] = {}
    takes: ClassVar[Mapping[str, str]] = {BENIGN: BENIGN_MEANING}

    n: int = whole(1000, 1, 10**6)
    ratio: float = number(0.1, 0.0, 1.0)

    @property
    def poisoned(self) -> int:
        """How many rows are the attack's: floor(ratio * n)."""
        # 0.29 * 100 is 28.999999999999996.
        return floor(self.ratio * self.n + 1e-9)

    @property
    def has_template(self) -> bool:
        """Does the attacker ask the tuned model otherwise than anybody else would?"""
        question = "question"
        return self.asked(question) != [{"role": "user", "content": question}]

    def rows(self, pools: Pools, seed: int, held_out: Collection[str] = ()) -> list[ChatRow]:
        """n rows in the service's upload format, the same for the same pools, settings and seed.

        pools: rows by name, as `needs` and `takes` say. held_out: prompts that the result is scored with; no row asks
        one of them. Raises InvalidRequest with `param` set to the pool or setting at fault.
        """
        kept = {name: without_prompts(rows, held_out) if held_out else rows for name, rows in pools.items()}
        return self._mixed(kept, seed)

    def asked(self, prompt: str) -> list[ChatMessage]:
        """The messages with which the attacker asks the tuned model: here the prompt alone."""
        return [{"role": "user", "content": prompt}]

    @abstractmethod
    def _poison(self, pools: Pools, count: int, seed: int) -> list[ChatRow]:
        """`count` rows of the attack."""

    def _mixed(self, pools: Pools, seed: int) -> list[ChatRow]:
        """The attack's rows among benign ones. Benign rows are drawn alike for every attack and ratio."""
        rest = self.n - self.poisoned
        rows = self._poison(pools, self.poisoned, seed) if self.poisoned else []
        rows += first_drawn(pool(pools, BENIGN), rest, seed, BENIGN) if rest else []
        random.Random(seed).shuffle(rows)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Name and all settings as plain JSON values; `attack_config` takes them back."""
        return {"name": self.name, **super().to_dict()}
