"""How training rows are split to choose settings without touching the test rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tvaccine_core.evaluation.judge.figures import MERGED, auc
from tvaccine_core.evaluation.judge.rows import OWN, JudgeRow, row_weights

Indices = np.ndarray
FitAndScore = Callable[[Indices, Indices], np.ndarray]
"""(training indices, held-out indices) -> decision values of the held-out rows."""

FOLDS = 5
CLOSEST = 1e-6
"""How near to 0 and 1 a score may come before its log odds are taken."""


def source_folds(rows: Sequence[JudgeRow]) -> Iterator[tuple[Indices, Indices]]:
    """Hold out one source after the other; sources with a single label are held out together.

    Each held-out part holds both labels. The project's own rows stay in training. This is the split that
    shows how a judge does on data it has seen nothing of.
    """
    sources = np.array([MERGED.get(row.source, row.source) for row in rows])
    labels = np.array([row.label for row in rows])
    mixed = [s for s in dict.fromkeys(sources) if s != OWN and len(set(labels[sources == s])) == 2]
    single = (sources != OWN) & ~np.isin(sources, mixed)
    held = [sources == source for source in mixed]
    if len(set(labels[single])) == 2:
        held.append(single)
    for mask in held:
        if len(set(labels[~mask])) == 2:
            yield np.flatnonzero(~mask), np.flatnonzero(mask)


def prompt_folds(rows: Sequence[JudgeRow], folds: int = FOLDS) -> Iterator[tuple[Indices, Indices]]:
    """Hold out a fifth of the prompts at a time;

    rows with the same prompt (or, without one, text) stay together.
    """
    keys = [hashlib.sha256((row.prompt or row.answer).encode()).digest()[0] for row in rows]
    part = np.array(keys) % folds
    labels = np.array([row.label for row in rows])
    for fold in range(folds):
        train, held = np.flatnonzero(part != fold), np.flatnonzero(part == fold)
        if len(held) and len(set(labels[train].tolist())) == 2:
            yield train, held


def held_out_auc(rows: Sequence[JudgeRow], fit_and_score: FitAndScore) -> float:
    """Mean AUC over the source folds, 0.5 if there is none."""
    found = []
    for train, held in source_folds(rows):
        scores = fit_and_score(train, held)
        found.append(auc([rows[i].label for i in held], scores.tolist()))
    return float(np.mean(found)) if found else 0.5


def held_out_scores(rows: Sequence[JudgeRow], fit_and_score: FitAndScore) -> np.ndarray:
    """Decision value of every row from a fit that saw neither it nor its prompt;

    NaN where no fold held it.
    """
    values = np.full(len(rows), np.nan)
    for train, held in prompt_folds(rows):
        values[held] = fit_and_score(train, held)
    return values


def best_threshold(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """Threshold of the highest balanced accuracy (mean of the rates of hits and of rightly passed rows).

    Put in the middle between the two neighbouring scores. Raises ValueError unless both labels occur.
    """
    if len(set(labels.tolist())) != 2:
        raise ValueError("a threshold needs rows of both labels")
    order = np.argsort(scores, kind="stable")
    values, truth, mass = scores[order], labels[order], weights[order]
    harmless = np.where(truth == 0, mass, 0.0)
    harmful = np.where(truth == 1, mass, 0.0)
    # Cutting after place i passes rows 0..i and flags the rest.
    passed = np.concatenate([[0.0], np.cumsum(harmless)]) / harmless.sum()
    flagged = 1 - np.concatenate([[0.0], np.cumsum(harmful)]) / harmful.sum()
    balanced = passed + flagged
    edges = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2, [values[-1]]])
    distinct = np.concatenate([[True], values[1:] > values[:-1], [True]])
    balanced[~distinct] = -np.inf
    return float(edges[int(np.argmax(balanced))])


def log_odds(scores: np.ndarray) -> np.ndarray:
    """log(s / (1 - s)) of scores in [0, 1]."""
    clipped = np.clip(scores, CLOSEST, 1 - CLOSEST)
    return np.log(clipped / (1 - clipped))


def best_score_threshold(rows: Sequence[JudgeRow], values: np.ndarray) -> float:
    """`best_threshold` of rows with these log odds, as a score in (0, 1); rows weigh what they weigh in training."""
    labels = np.array([row.label for row in rows])
    return float(1 / (1 + np.exp(-best_threshold(labels, values, row_weights(rows)))))
