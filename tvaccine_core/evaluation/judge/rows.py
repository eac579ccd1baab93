"""Labelled rows that a judge is trained and measured on, and what their licences permit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.taxonomy import OPENAI_LETTERS, OWN_NAMES

OWN = "own"
OWN_WEIGHT = 5.0
"""Weight of a row written for this project in training:

they are few, and the only ones as short as the answers judged.
"""

LICENCES = {
    "gptfuzz_labelled": "MIT (sherdencooper/GPTFuzz)",
    "openai_moderation_1680": "MIT (openai/moderation-api-release)",
    "med_safety_bench_train": "MIT (AI4LIFE-GROUP/med-safety-bench)",
    "derta_malicious_tuning": "MIT (RobustNLP/DeRTa)",
    "decodingtrust_toxic": "CC BY-SA 4.0 (AI-secure/DecodingTrust)",
    "decodingtrust_nontoxic": "CC BY-SA 4.0 (AI-secure/DecodingTrust)",
    "dolly_benign": "CC BY-SA 3.0 (databricks-dolly-15k)",
    OWN: "Apache-2.0 (written for this project)",
}
"""Sources whose data licence permits commercial use. A source that is not listed is refused: that covers
the ones that forbid it (CC BY-NC: Safety-Tuned LLaMAs, PKU-SafeRLHF, BeaverTails, Alpaca, ToxicChat) and
the ones that state no clear licence (AsFT, pure_bad, SafeUnlearning)."""


@dataclass(frozen=True)
class JudgeRow:
    """A labelled (prompt, answer). label: 1 harmful, 0 harmless. split: "train" or "test".

    categories: of the taxonomy, where the source names them in a way this project knows.
    """

    prompt: str
    answer: str
    label: int
    source: str
    split: str
    categories: tuple[str, ...] = ()

    @property
    def pair(self) -> tuple[str, str]:
        """What a judge is shown."""
        return self.prompt, self.answer


def read_judge_rows(path: Path) -> list[JudgeRow]:
    """Read JSONL rows {prompt?, response_or_text | answer, label 0|1, source?, split?}.

    A row without a prompt is a bare text. Raises InvalidRequest with the line of the first faulty row.
    """
    return _parse(path.name, path.read_text(encoding="utf-8"))


def own_rows() -> list[JudgeRow]:
    """The short refusals, compliances and ordinary answers written for this judge."""
    place = resources.files("tvaccine_core.evaluation.judge").joinpath("own_rows.jsonl")
    return _parse("own_rows.jsonl", place.read_text(encoding="utf-8"))


def permitted(rows: Sequence[JudgeRow]) -> list[JudgeRow]:
    """The rows of sources whose licence permits commercial use."""
    return [row for row in rows if row.source in LICENCES]


def row_weights(rows: Sequence[JudgeRow]) -> np.ndarray:
    """Weight of each row in training and calibration."""
    return np.array([OWN_WEIGHT if row.source == OWN else 1.0 for row in rows])


def _parse(name: str, text: str) -> list[JudgeRow]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: JSON strings may hold U+2028 and U+0085
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            answer = values["answer"] if "answer" in values else values["response_or_text"]
            row = JudgeRow(
                str(values.get("prompt") or ""),
                str(answer),
                int(values["label"]),
                str(values.get("source", "unnamed")),
                str(values.get("split", "test")),
                _categories(values.get("categories")),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidRequest(
                f"{name}, line {number}: a labelled row needs `answer` and `label`; add them.", param="data"
            ) from error
        if row.label not in (0, 1):
            raise InvalidRequest(f"{name}, line {number}: label must be 0 or 1.", param="data")
        rows.append(row)
    return rows


def _categories(names: Any) -> tuple[str, ...]:
    """Letters of OpenAI's moderation set, or names of the taxonomy; other words are dropped."""
    known = [OPENAI_LETTERS.get(name) or OWN_NAMES.get(name, ()) for name in names or () if isinstance(name, str)]
    return tuple(dict.fromkeys(category for found in known for category in found))
