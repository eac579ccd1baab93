"""The settings of safe-row mixing. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvaccine_core.alignment.settings import choice, flag, number, whole
from tvaccine_core.finetuning.checked_settings import CheckedSettings

PLAIN, TEMPLATE, PARAPHRASE = "plain", "template", "paraphrase"


@dataclass(frozen=True, kw_only=True)
class SafeMixingConfig(CheckedSettings):
    """The provider's safe rows among the user's, put the way the user puts things (Eiras et al., arXiv 2406.10288).

    mode: "plain" (rows as they are: a baseline), "template" (the question replaces that of one of the user's prompts),
        "paraphrase" (the vaccinated model puts the question in the user's style; what fails the checks is put into
        the template).
    rate (lambda of the paper): safe rows for each row of the user, 0..10.
    examples: user prompts that a rewriting is shown, 1..10. tries: rewritings of one question at most, 1..10.
    kept_words: share of the question's longer words that a rewriting must keep, 0..1.
    max_new_tokens: length of a rewriting, 8..2048.
    wrap_answers: put the safe answer after the beginning that all answers of the user share.
    """

    name: ClassVar[str] = "safe_mixing"
    subject: ClassVar[str] = "safe_mixing"

    mode: str = choice(TEMPLATE, (PLAIN, TEMPLATE, PARAPHRASE))
    rate: float = number(0.1, 0.0, 10.0)
    examples: int = whole(5, 1, 10)
    tries: int = whole(3, 1, 10)
    kept_words: float = number(0.5, 0.0, 1.0)
    max_new_tokens: int = whole(128, 8, 2048)
    wrap_answers: bool = flag(True)

    def rows(self, user_rows: int) -> int:
        """How many safe rows go among `user_rows` rows."""
        return round(self.rate * user_rows)
