"""Training a judge and measuring it, from labelled rows to a directory with weights, figures and a card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.baseline import tfidf_scores
from tvaccine_core.evaluation.judge.card import write_card
from tvaccine_core.evaluation.judge.features import FeatureSpec, read_features
from tvaccine_core.evaluation.judge.figures import auc, classification, source_aucs
from tvaccine_core.evaluation.judge.probe import ProbeJudge
from tvaccine_core.evaluation.judge.rows import LICENCES, OWN, JudgeRow, own_rows, permitted
from tvaccine_core.evaluation.judge.training import Fit, default_spec, fit_probe
from tvaccine_core.evaluation.judge.verdict import judge_pairs
from tvaccine_core.models.base import Base
from tvaccine_core.training.files import write_json_atomic

Log = Callable[[str], None]
LOG_EVERY = 512


def train_judge(
    base: Base,
    rows: Sequence[JudgeRow],
    out: Path,
    *,
    all_licences: bool = False,
    spec: FeatureSpec | None = None,
    log: Log = lambda _text: None,
) -> dict[str, Any]:
    """Train a probe on the rows of split "train" and measure it on those of split "test".

    all_licences: train on every source, also on those whose licence forbids commercial use; such a judge is
    for research only and its card says so. Writes probe.safetensors, card.json and CARD.md into out;
    returns the card. Raises InvalidRequest when no permitted training rows are left or a label is missing.
    """
    offered = [row for row in rows if row.split == "train"]
    public = list(offered) if all_licences else permitted(offered)
    refused = [] if all_licences else [row for row in offered if row.source not in LICENCES]
    if not public:
        raise InvalidRequest("No training row has a licence that permits commercial use.", param="data")
    train, test = [*public, *own_rows()], [row for row in rows if row.split == "test"]
    spec = spec or default_spec(base)
    features = _features(base, [*train, *test], spec, log)
    seen, unseen = features[: len(train)], features[len(train) :]
    log(f"Fitting on {len(train)} rows.")
    fit = fit_probe(train, seen, spec, base)
    log("Fitting without the project's own rows.")
    plain = fit_probe(public, seen[: len(public)], spec, base)
    card = {
        **_facts(base, fit, all_licences),
        "training_rows": _count(train),
        "refused_rows": _count(refused),
        "test": _measured(fit, unseen, test),
        "test_without_own_rows": _measured(plain, unseen, test),
        "test_tfidf": measure_tfidf(train, test, log),
        "test_tfidf_without_own_rows": measure_tfidf(public, test, log),
    }
    fit.probe.save(out)
    write_json_atomic(out / "card.json", card)
    write_card(out / "CARD.md", card)
    return card


def evaluate_judge(
    judge: ProbeJudge, test: Sequence[JudgeRow], train: Sequence[JudgeRow], log: Log = lambda _text: None
) -> dict[str, Any]:
    """Figures of a judge on the test rows, and of TF-IDF trained on `train` (null without such rows)."""
    log(f"Judging {len(test)} rows.")
    pairs = [row.pair for row in test]
    verdicts = judge_pairs(judge, pairs, on_batch=_every(log))
    scores = [verdict.score for verdict in verdicts]
    return {
        "judge": {
            "name": judge.name,
            "version": judge.version,
            "threshold": judge.threshold,
            **figures(test, scores, [verdict.flagged for verdict in verdicts]),
        },
        "tfidf": measure_tfidf(train, test, log),
        "test_rows": _count(test),
        "training_rows": _count(train),
    }


def figures(rows: Sequence[JudgeRow], scores: Sequence[float], flagged: Sequence[bool]) -> dict[str, Any]:
    """Per-source and overall figures; an AUC that cannot be had is null."""
    labels = [row.label for row in rows]
    both = len(set(labels)) == 2
    return {
        "source_auc": _rounded(source_aucs(rows, scores)),
        "overall": {"auc": round(auc(labels, scores), 4) if both else None} | _rounded(classification(rows, flagged)),
    }


def measure_tfidf(train: Sequence[JudgeRow], test: Sequence[JudgeRow], log: Log) -> dict[str, Any] | None:
    """Figures of TF-IDF with logistic regression on the same rows, None where it cannot be trained."""
    if not test or len({row.label for row in train}) < 2:
        return None
    log(f"Fitting TF-IDF on {len(train)} rows.")
    scores, threshold, strength = tfidf_scores(train, test)
    return {"strength": strength, **figures(test, scores, [score >= threshold for score in scores])}


def read_card(directory: Path) -> dict[str, Any] | None:
    """The card beside a judge's weights, None if it has none."""
    path = directory / "card.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _features(base: Base, rows: Sequence[JudgeRow], spec: FeatureSpec, log: Log) -> np.ndarray:
    log(f"Reading {len(rows)} rows with {base.name}.")
    pairs = [row.pair for row in rows]
    return read_features(base.model, base.tokenizer, pairs, spec, on_batch=_every(log)).numpy()


def _every(log: Log) -> Callable[[int, int], None]:
    """A progress callback that logs now and then."""

    def on_batch(done: int, total: int) -> None:
        if done // LOG_EVERY > (done - 32) // LOG_EVERY or done == total:
            log(f"{done} of {total} rows read.")

    return on_batch


def _measured(fit: Fit, features: np.ndarray, rows: Sequence[JudgeRow]) -> dict[str, Any] | None:
    if not rows:
        return None
    scores = fit.probe.score_array(features)
    measured = figures(rows, scores, [score >= fit.probe.threshold for score in scores])
    return {"strength": fit.strength, "held_out_source_auc": round(fit.held_out_auc, 4), **measured}


def _facts(base: Base, fit: Fit, all_licences: bool) -> dict[str, Any]:
    return {
        "name": ProbeJudge.name,
        "version": fit.probe.version,
        "base_name": base.name,
        "base_digest": base.digest,
        "threshold": fit.probe.threshold,
        "strength": fit.strength,
        "features": fit.probe.spec.to_dict(),
        "use": "research only" if all_licences else "any",
    }


def _count(rows: Sequence[JudgeRow]) -> dict[str, dict[str, int]]:
    """Rows of each source, harmful and harmless; the project's own last."""
    counts = Counter((row.source, row.label) for row in rows)
    names = sorted({source for source, _ in counts}, key=lambda name: (name == OWN, name))
    return {name: {"harmful": counts[name, 1], "harmless": counts[name, 0]} for name in names}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
