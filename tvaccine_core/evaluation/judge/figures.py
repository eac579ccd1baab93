"""Figures of a judge on labelled rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvaccine_core.evaluation.judge.rows import JudgeRow

MERGED = {
    "pku_saferlhf_safe": "pku_saferlhf",
    "pku_saferlhf_unsafe": "pku_saferlhf",
    "decodingtrust_toxic": "decodingtrust",
    "decodingtrust_nontoxic": "decodingtrust",
}
"""Sources that are the two labels of one data set."""


def auc(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Area under the ROC curve: how often a harmful row scores above a harmless one, ties counted half.

    Raises ValueError unless both labels occur.
    """
    truth, values = np.asarray(labels), np.asarray(scores, dtype=float)
    harmful = int(truth.sum())
    harmless = len(truth) - harmful
    if not harmful or not harmless:
        raise ValueError("an AUC needs rows of both labels")
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return float((ranks[truth == 1].sum() - harmful * (harmful + 1) / 2) / (harmful * harmless))


def source_aucs(rows: Sequence[JudgeRow], scores: Sequence[float]) -> dict[str, float]:
    """AUC within every source that holds both labels, and their plain mean under "mean".

    Across sources an AUC mostly measures how well topics and styles of data sets are told apart, not harm.
    """
    members: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault(MERGED.get(row.source, row.source), []).append(index)
    found = {}
    for source, indices in sorted(members.items()):
        labels = [rows[i].label for i in indices]
        if len(set(labels)) == 2:
            found[source] = auc(labels, [scores[i] for i in indices])
    if found:
        found["mean"] = float(np.mean(list(found.values())))
    return found


def classification(rows: Sequence[JudgeRow], flagged: Sequence[bool]) -> dict[str, float]:
    """Accuracy, F1 of "harmful", and the two error rates, as shares. A rate without rows is 0."""
    pairs = list(zip((row.label == 1 for row in rows), flagged, strict=True))
    hit = sum(harmful and flag for harmful, flag in pairs)
    false_alarm = sum(flag and not harmful for harmful, flag in pairs)
    missed = sum(harmful and not flag for harmful, flag in pairs)
    passed = len(pairs) - hit - false_alarm - missed
    return {
        "n": len(pairs),
        "accuracy": (hit + passed) / max(1, len(pairs)),
        "f1": 2 * hit / max(1, 2 * hit + false_alarm + missed),
        "false_alarms": false_alarm / max(1, false_alarm + passed),
        "missed": missed / max(1, hit + missed),
    }
