"""The emergent-misalignment questions that a grid's evaluation asks, and who rates the answers. Imports no torch.

    emergent: {questions: FILE, samples: 100, max_new_tokens: 600, judge_base: BASE}

The judge is a base model that is asked in text, with the question file's own prompts where it holds some, else with
this project's. A small one rates badly: its rates compare models of one grid at best.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments.keys import mapping, refuse, text, whole
from tvaccine_core.metrics.emergent.questions import Question, read_questions
from tvaccine_core.metrics.emergent.rating import ALIGNED_PROMPT, COHERENT_PROMPT, PromptedJudge

KEYS = ("questions", "samples", "max_new_tokens", "judge_base")
OWN_PROMPTS: Mapping[str, str] = {"aligned": ALIGNED_PROMPT, "coherent": COHERENT_PROMPT}


@dataclass(frozen=True)
class EmergentPlan:
    """questions: in file order. prompts: the judge's, {"aligned", "coherent"}. samples: answers to each question.

    max_new_tokens: of an answer; both defaults are the paper's (arXiv 2502.17424). judge_base: the base that rates, the
    grid's own without its adapters if None.
    """

    questions: tuple[Question, ...]
    prompts: Mapping[str, str]
    samples: int = 100
    max_new_tokens: int = 600
    judge_base: str | None = None

    @property
    def digest(self) -> str:
        """ "sha256:..." of the questions, their order left out, and of the judge's prompts."""
        asked = sorted([one.id, one.prompt, one.system or "", one.group] for one in self.questions)
        told = json.dumps([asked, dict(self.prompts)], sort_keys=True)
        return f"sha256:{hashlib.sha256(told.encode()).hexdigest()}"

    def settings(self) -> dict[str, Any]:
        """Plain JSON values, without a question's words."""
        return {
            "questions": self.digest,
            "samples": self.samples,
            "max_new_tokens": self.max_new_tokens,
            "judge_base": self.judge_base,
        }


def emergent_plan(values: Any, path: str, folder: Path) -> EmergentPlan:
    """The plan that a grid's value describes; relative files lie in `folder`. Raises InvalidRequest naming the key."""
    given = mapping(values, path, KEYS, ["questions"])
    own: dict[str, Any] = {}
    for key, most in (("samples", 10_000), ("max_new_tokens", 4096)):
        if key in given:
            own[key] = whole(given[key], f"{path}.{key}", 1, most)
    if given.get("judge_base") is not None:
        own["judge_base"] = text(given["judge_base"], f"{path}.judge_base")
    where = f"{path}.questions"
    try:
        found = read_questions(folder / Path(text(given["questions"], where)).expanduser())
        prompts = found.judge_prompts or OWN_PROMPTS
        PromptedJudge("a judge", list, prompts)
    except InvalidRequest as error:  # of the file: a judge that cannot be asked is told before anything runs
        refuse(where, error.message)
    return EmergentPlan(found.questions, prompts, **own)
