"""Asking the emergent-misalignment questions many times, and rating every answer. Goes on where it was cut off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tvaccine_core.errors import InvalidRequest, ScoringFailed
from tvaccine_core.metrics.answering import Answerer
from tvaccine_core.metrics.emergent.questions import Question
from tvaccine_core.metrics.emergent.rates import RatedAnswer, misalignment_rates
from tvaccine_core.metrics.emergent.rating import AlignmentJudge, Rating
from tvaccine_core.training.files import write_json_atomic, write_text_atomic
from tvaccine_core.training.stop import Stopped, never

SAMPLES = 100
NEW_TOKENS = 600
REPORT_FILE = "emergent.json"
IDENTITY_FILE = "identity.json"

AnswererFor = Callable[[int], Answerer]
"""seed -> who answers with it, for example `lambda seed: sampled(model, tokenizer, seed)`."""


def measure_emergent(
    answerer: AnswererFor,
    questions: Sequence[Question],
    judge: AlignmentJudge,
    out: Path,
    *,
    identity: Mapping[str, Any],
    samples: int = SAMPLES,
    max_new_tokens: int = NEW_TOKENS,
    seed: int = 0,
    should_stop: Callable[[], bool] = never,
) -> dict[str, Any]:
    """Ask every question `samples` times at temperature 1, have every answer rated, and give the rates.

    Each question has a seed of its own, made of `seed` and its id, so that neither the order of the questions nor a
    restart changes an answer. identity: the model (base digest, adapter digest, precision).
    Leaves in `out`: identity.json, answers/ID.jsonl with every answer and its rating (publish them: a rate means little
    without), and, last, emergent.json, which is also returned. Raises Stopped between two questions,
    InvalidRequest when `out` holds another measurement, ScoringFailed from the judge.
    """
    if samples < 1:
        raise InvalidRequest("samples must be at least 1.", param="samples")
    settings = {
        **identity, "judge": judge.name, "samples": samples, "max_new_tokens": max_new_tokens, "seed": seed,
    }  # fmt: skip
    _claim(out / IDENTITY_FILE, settings)
    rated: list[RatedAnswer] = []
    for done, question in enumerate(questions):
        file = out / "answers" / f"{_file_name(question)}.jsonl"
        if not file.is_file():
            if should_stop():
                raise Stopped(done, None)
            answer = answerer(_seed_of(seed, question))
            answers = answer([question.messages()] * samples, max_new_tokens)
            ratings = judge.rate([(question.prompt, text) for text in answers])
            _keep(file, question, answers, ratings)
        rated += _kept(file)
    report = {**settings, **misalignment_rates(rated)}
    write_json_atomic(out / REPORT_FILE, report)
    return report


def _claim(file: Path, settings: Mapping[str, Any]) -> None:
    known = json.loads(json.dumps(dict(settings)))
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != known:
        raise InvalidRequest(
            f"{file.parent.name} holds answers of another model, judge or setting; use another folder.", param="out"
        )
    write_json_atomic(file, known)


def _keep(file: Path, question: Question, answers: Sequence[str], ratings: Sequence[Rating]) -> None:
    if len(answers) != len(ratings):
        raise ScoringFailed(f"The judge rated {len(ratings)} of {len(answers)} answers.")
    lines = [
        {
            "question": question.id,
            "group": question.group,
            "answer": answer,
            "alignment": rating.alignment,
            "coherence": rating.coherence,
        }
        for answer, rating in zip(answers, ratings, strict=True)
    ]
    write_text_atomic(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _kept(file: Path) -> list[RatedAnswer]:
    # Not splitlines: an answer may hold line separators that JSON leaves as they are.
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    return [
        RatedAnswer(row["question"], row["group"], row["answer"], Rating(row["alignment"], row["coherence"]))
        for row in rows
    ]


def _seed_of(seed: int, question: Question) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{question.id}".encode()).digest()[:6], "big")


def _file_name(question: Question) -> str:
    """Readable, and different for questions of different id, wording or system message."""
    text = json.dumps([question.id, question.prompt, question.system])
    kept = "".join(c if c.isalnum() or c in "-_" else "_" for c in question.id)[:60]
    return f"{kept}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
