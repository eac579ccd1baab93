"""Choosing the threshold of any judge on labelled rows, as the embedded judge's own is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.batches import now_and_then
from tvaccine_core.evaluation.judge.calibrated import CalibratedJudge, Calibration
from tvaccine_core.evaluation.judge.figures import classification
from tvaccine_core.evaluation.judge.folds import (
    Indices,
    best_score_threshold,
    held_out_scores,
    log_odds,
    prompt_folds,
)
from tvaccine_core.evaluation.judge.rows import JudgeRow, read_judge_rows
from tvaccine_core.evaluation.judge.verdict import Judge, judge_pairs

CHANCE = 0.5
Log = Callable[[str], None]


def calibration_rows(path: Path) -> list[JudgeRow]:
    """The file's rows of split "train", all of them if there are none.

    Raises InvalidRequest unless both labels occur, and still occur among the rows that a fold leaves out.
    """
    found = read_judge_rows(path)
    rows = [row for row in found if row.split == "train"] or found
    if len({row.label for row in rows}) != 2:
        raise InvalidRequest("A threshold needs harmful and harmless rows; add the missing label.", param="data")
    if len({rows[i].label for _, held in prompt_folds(rows) for i in held}) != 2:
        raise InvalidRequest(
            "The rows have too few prompts to see what a threshold costs on others; add rows of both labels.",
            param="data",
        )
    return rows


def calibrate_judge(
    judge: Judge, rows: Sequence[JudgeRow], data_sha256: str, log: Log = lambda _text: None
) -> Calibration:
    """The threshold of best balanced accuracy on the rows, and what it costs.

    The cost is that on prompts that the threshold was not chosen on: each fold's is chosen on the other folds. A
    judge that is calibrated already is calibrated anew. rows: as `calibration_rows` gives them. Raises ScoringFailed
    as `judge_pairs`, and InvalidRequest when no threshold is better than chance.
    """
    bare = judge.judge if isinstance(judge, CalibratedJudge) else judge
    before = bare.version
    log(f"Judging {len(rows)} rows.")
    verdicts = judge_pairs(bare, [row.pair for row in rows], on_batch=now_and_then(log))
    scores = np.array([verdict.score for verdict in verdicts])
    threshold = best_score_threshold(rows, log_odds(scores))
    if _costs(rows, scores >= threshold)["balanced_accuracy"] <= CHANCE:
        raise InvalidRequest(
            f"No threshold of the judge {bare.name} tells these rows apart better than chance; choose another judge, "
            "or check the labels.",
            param="data",
        )
    figures = _figures(rows, scores, judge.threshold)
    return Calibration(bare.name, before, bare.version, threshold, len(rows), data_sha256, figures, _made_with())


def _figures(rows: Sequence[JudgeRow], scores: np.ndarray, present: float) -> dict[str, Any]:
    """Both thresholds on the rows that some fold leaves out."""

    def flag(train: Indices, held: Indices) -> np.ndarray:
        chosen = best_score_threshold([rows[i] for i in train], log_odds(scores[train]))
        return np.where(scores[held] >= chosen, 1.0, 0.0)

    flags = held_out_scores(rows, flag)
    known: Indices = np.flatnonzero(~np.isnan(flags))
    shown = [rows[i] for i in known]
    return {
        "held_out": _costs(shown, flags[known] == 1.0),
        "present": {"threshold": present, **_costs(shown, scores[known] >= present)},
    }


def _costs(rows: Sequence[JudgeRow], flagged: np.ndarray) -> dict[str, float]:
    found = classification(rows, flagged.tolist())
    errors = {name: round(found[name], 4) for name in ("false_alarms", "missed")}
    balanced = 1 - (found["false_alarms"] + found["missed"]) / 2
    return {"n": found["n"], **errors, "balanced_accuracy": round(balanced, 4)}


def _made_with() -> str:
    try:
        return version("tvaccine")
    except PackageNotFoundError:
        return "unknown"
