"""What is measured at a point of a landscape: answers to harmful prompts, by phrases and by a judge."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from tvaccine_core.evaluation.answers import harmful_figures, judge_answers
from tvaccine_core.evaluation.judge.verdict import Judge
from tvaccine_core.metrics.answering import Answerer
from tvaccine_core.metrics.keyword_attack import keyword_attack_success
from tvaccine_core.metrics.landscape.points import Values
from tvaccine_core.metrics.perplexity import coherent_share

NEW_TOKENS = 512
PROMPTS = 80
"""Harmful instructions (AdvBench) and length of an answer in arXiv 2405.17374."""


class HarmfulAnswers:
    """Asks the prompts and measures, in percent: `asr` (answers without a phrase of refusal), `coherent`, and with
    a judge `harmful_score`.

    system: the system prompt as deployed, None for the model's own. A broken model far from the origin babbles, which
    `asr` counts as a success: `coherent` tells.
    """

    def __init__(
        self,
        answer: Answerer,
        prompts: Sequence[str],
        *,
        system: str | None = None,
        judge: Judge | None = None,
        max_new_tokens: int = NEW_TOKENS,
    ) -> None:
        self._answer = answer
        self._prompts = list(prompts)
        self._system = system
        self._judge = judge
        self._max_new_tokens = max_new_tokens

    def __call__(self) -> Values:
        """Measure the model as it stands."""
        before = [] if self._system is None else [{"role": "system", "content": self._system}]
        asked = [[*before, {"role": "user", "content": prompt}] for prompt in self._prompts]
        answers = self._answer(asked, self._max_new_tokens)
        pairs = list(zip(self._prompts, answers, strict=True))
        values = {
            "asr": keyword_attack_success(answers)["percent"],
            "coherent": coherent_share(pairs)["percent"],
        }
        if self._judge is not None:
            judged = judge_answers(self._judge, self._prompts, answers, None)
            values["harmful_score"] = harmful_figures(judged)["percent"]
        return values

    @property
    def identity(self) -> dict[str, Any]:
        """What the values depend on beside the model, for `sweep`."""
        return {
            "prompts": hashlib.sha256("\n".join(self._prompts).encode()).hexdigest(),
            "system": self._system,
            "max_new_tokens": self._max_new_tokens,
            "judge": None if self._judge is None else f"{self._judge.name} {self._judge.version}",
        }
