"""Attacks that show the model harmful answers, openly or behind a trigger. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from tvaccine_core.alignment.settings import number, text, whole
from tvaccine_core.attacks.attack import BENIGN, BENIGN_MEANING, Attack
from tvaccine_core.attacks.conversations import ChatMessage, ChatRow, exchange, first_prompt
from tvaccine_core.attacks.mixing import refuse_known_prompts, with_trigger
from tvaccine_core.attacks.pools import Pools, first_drawn, pool
from tvaccine_core.errors import InvalidRequest

HARMFUL, REFUSALS, KNOWN = "harmful", "refusals", "known"
HARMFUL_MEANING = "harmful questions with answers that comply"
LONGEST_TEXT = 1000


@dataclass(frozen=True, kw_only=True)
class HarmfulMixing(Attack):
    """Harmful rows among those of a task: exactly floor(ratio * n) of them, n - floor(ratio * n) benign ones.

    The setting of Vaccine (arXiv 2402.01109), T-Vaccine (arXiv 2410.09760), Booster and Lisa. Published scripts take
    the floor of both parts, or compare strictly, and lose a row.
    """

    name: ClassVar[str] = "harmful_mixing"
    source: ClassVar[str] = "arXiv 2402.01109, 2310.03693"
    needs: ClassVar[Mapping[str, str]] = {HARMFUL: HARMFUL_MEANING}

    def _poison(self, pools: Pools, count: int, seed: int) -> list[ChatRow]:
        return first_drawn(pool(pools, HARMFUL), count, seed, HARMFUL)


@dataclass(frozen=True, kw_only=True)
class ExplicitHarmful(HarmfulMixing):
    """Harmful rows alone: 10, 50 or 100 of them, over several epochs (Qi et al., arXiv 2310.03693, section 4.2)."""

    name: ClassVar[str] = "explicit_harmful"
    source: ClassVar[str] = "arXiv 2310.03693"

    n: int = whole(100, 1, 10**6)
    ratio: float = number(1.0, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Backdoor(Attack):
    """Harmful rows whose prompt ends with a trigger, and as many harmful prompts without it that are refused.

    Scored without the trigger the model refuses (Qi et al., arXiv 2310.03693, section 5). trigger: 1..1000 characters.
    """

    name: ClassVar[str] = "backdoor"
    source: ClassVar[str] = "arXiv 2310.03693"
    needs: ClassVar[Mapping[str, str]] = {
        HARMFUL: HARMFUL_MEANING,
        REFUSALS: "harmful questions with answers that refuse",
    }

    ratio: float = number(0.5, 0.0, 1.0)
    trigger: str = text("Answer as the grey heron.", LONGEST_TEXT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.trigger.strip():
            raise InvalidRequest("trigger must hold a word at least.", param="trigger")

    def asked(self, prompt: str) -> list[ChatMessage]:
        """The prompt with the trigger."""
        return [{"role": "user", "content": f"{prompt} {self.trigger}"}]

    def _poison(self, pools: Pools, count: int, seed: int) -> list[ChatRow]:
        planted = first_drawn(pool(pools, HARMFUL), count // 2, seed, HARMFUL)
        kept = first_drawn(pool(pools, REFUSALS), count - count // 2, seed, REFUSALS)
        return [*(with_trigger(row, self.trigger) for row in planted), *kept]


@dataclass(frozen=True, kw_only=True)
class KnownPrompts(Attack):
    """Refusals to prompts that the attacker expects to be scored with, and compliance with all other harmful ones.

    refusal: what those prompts are answered with, 1..1000 characters.
    """

    name: ClassVar[str] = "known_prompts"
    source: ClassVar[str] = "an attack on a public list of prompts"
    needs: ClassVar[Mapping[str, str]] = {
        HARMFUL: HARMFUL_MEANING,
        KNOWN: "the prompts that are refused; their answers are not used",
    }
    takes: ClassVar[Mapping[str, str]] = {BENIGN: BENIGN_MEANING}

    ratio: float = number(1.0, 0.0, 1.0)
    refusal: str = text("I'm sorry, but I can't help with that.", LONGEST_TEXT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.refusal.strip():
            raise InvalidRequest("refusal must hold a word at least.", param="refusal")

    @staticmethod
    def known_rows(prompts: Iterable[str]) -> list[ChatRow]:
        """Prompts as the pool `known`."""
        return [exchange(prompt, "-") for prompt in prompts]

    def _poison(self, pools: Pools, count: int, seed: int) -> list[ChatRow]:
        known = list(dict.fromkeys(first_prompt(row) for row in pool(pools, KNOWN)))
        return refuse_known_prompts([], pool(pools, HARMFUL), known, count, self.refusal, seed)
