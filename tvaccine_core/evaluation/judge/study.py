"""Training a judge and measuring it, from labelled rows to a directory with weights, figures and a card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.baseline import tfidf_scores
from tvaccine_core.evaluation.judge.batches import now_and_then
from tvaccine_core.evaluation.judge.card import write_card
from tvaccine_core.evaluation.judge.categories import categorised_pairs, fit_categories
from tvaccine_core.evaluation.judge.features import FeatureSpec, read_features
from tvaccine_core.evaluation.judge.figures import (
    auc,
    auc_difference,
    by_source,
    calibration_error,
    classification,
    source_aucs,
)
from tvaccine_core.evaluation.judge.probe import Probe, ProbeJudge
from tvaccine_core.evaluation.judge.rows import LICENCES, OWN, JudgeRow, own_rows, permitted
from tvaccine_core.evaluation.judge.training import Fit, default_spec, fit_probe
from tvaccine_core.evaluation.judge.tuning import tune_judge
from tvaccine_core.evaluation.judge.tuning_checkpoint import CHECKPOINT
from tvaccine_core.evaluation.judge.tuning_config import TuningConfig
from tvaccine_core.evaluation.judge.verdict import Judge, judge_pairs
from tvaccine_core.models.base import Base
from tvaccine_core.training.files import write_json_atomic

Log = Callable[[str], None]


def train_judge(
    base: Base,
    rows: Sequence[JudgeRow],
    out: Path,
    *,
    all_licences: bool = False,
    spec: FeatureSpec | None = None,
    tuning: TuningConfig | None = None,
    log: Log = lambda _text: None,
) -> dict[str, Any]:
    """Train a judge on the rows of split "train" and measure it on those of split "test".

    all_licences: train on every source, also on those whose licence forbids commercial use; such a judge is
    for research only and its card says so. tuning: train low-rank updates of the base as well; None: a linear
    probe alone. Writes probe.safetensors, card.json and CARD.md into out, and on the way out/tuning.pt, from
    which a training that was cut off goes on; returns the card. Raises InvalidRequest when no permitted
    training rows are left or a label is missing.
    """
    offered = [row for row in rows if row.split == "train"]
    public = list(offered) if all_licences else permitted(offered)
    refused = [] if all_licences else [row for row in offered if row.source not in LICENCES]
    if not public:
        raise InvalidRequest("No training row has a licence that permits commercial use.", param="data")
    train, test = [*public, *own_rows()], [row for row in rows if row.split == "test"]
    spec = spec or default_spec(base)
    features = _features(base, train, spec, log)
    log(f"Fitting on {len(train)} rows.")
    fit = fit_probe(train, features, spec, base)
    probe = fit.probe if tuning is None else tune_judge(base, fit, features, train, tuning, out, log)
    probe = with_categories(base, probe, train, log)
    probe.save(out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    card = {
        **_facts(base, probe, fit, all_licences),
        "tuning": None if tuning is None else tuning.to_dict(),
        "training_rows": _count(train),
        "refused_rows": _count(refused),
        **_compared(ProbeJudge(Probe.load(out), base), train, test, log),
    }
    write_json_atomic(out / "card.json", card)
    write_card(out / "CARD.md", card)
    return card


def with_categories(base: Base, probe: Probe, rows: Sequence[JudgeRow], log: Log) -> Probe:
    """The probe with a head for kinds of harm, fitted to what is known of them."""
    pairs, names = categorised_pairs(rows)
    log(f"Telling categories apart on {len(pairs)} rows.")
    return replace(probe, categories=fit_categories(ProbeJudge(probe, base).read(pairs).numpy(), names))


def evaluate_judge(
    judge: Judge, test: Sequence[JudgeRow], train: Sequence[JudgeRow], log: Log = lambda _text: None
) -> dict[str, Any]:
    """Figures of a judge on the test rows, and of TF-IDF trained on `train` (null without such rows)."""
    compared = _compared(judge, train, test, log)
    return {
        "judge": {
            "name": judge.name,
            "version": judge.version,
            "threshold": judge.threshold,
            **(compared["test"] or {}),
        },
        "tfidf": compared["test_tfidf"],
        "difference": compared["difference"],
        "seconds_per_row": compared["seconds_per_row"],
        "test_rows": _count(test),
        "training_rows": _count(train),
    }


def _compared(judge: Judge, train: Sequence[JudgeRow], test: Sequence[JudgeRow], log: Log) -> dict[str, Any]:
    """Figures of the judge and of TF-IDF on the test rows, and the difference of their headline."""
    if not test:
        return {"test": None, "test_tfidf": None, "difference": None, "seconds_per_row": None}
    log(f"Judging {len(test)} rows.")
    started = perf_counter()
    verdicts = judge_pairs(judge, [row.pair for row in test], on_batch=now_and_then(log))
    seconds = (perf_counter() - started) / len(test)
    scores = [verdict.score for verdict in verdicts]
    words, difference = None, None
    if len({row.label for row in train}) == 2:
        log(f"Fitting TF-IDF on {len(train)} rows.")
        values, threshold, strength = tfidf_scores(train, test)
        chances = (1 / (1 + np.exp(-np.array(values)))).tolist()
        words = {"strength": strength, **figures(test, chances, [value >= threshold for value in values])}
        difference = auc_difference(test, scores, values)
    return {
        "test": figures(test, scores, [verdict.flagged for verdict in verdicts]),
        "test_tfidf": words,
        "difference": None if difference is None else _rounded(asdict(difference)),
        "seconds_per_row": round(seconds, 4),
    }


def figures(rows: Sequence[JudgeRow], scores: Sequence[float], flagged: Sequence[bool]) -> dict[str, Any]:
    """Per-source and overall figures; an AUC that cannot be had is null."""
    labels = [row.label for row in rows]
    both = len(set(labels)) == 2
    overall = classification(rows, flagged) | {"calibration_error": calibration_error(labels, scores)}
    return {
        "source_auc": _rounded(source_aucs(rows, scores)),
        "overall": {"auc": round(auc(labels, scores), 4) if both else None} | _rounded(overall),
        "sources": {name: _rounded(values) for name, values in by_source(rows, scores, flagged).items()},
    }


def read_card(directory: Path) -> dict[str, Any] | None:
    """The card beside a judge's weights, None if it has none."""
    path = directory / "card.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _features(base: Base, rows: Sequence[JudgeRow], spec: FeatureSpec, log: Log) -> np.ndarray:
    log(f"Reading {len(rows)} rows with {base.name}.")
    pairs = [row.pair for row in rows]
    return read_features(base.model, base.tokenizer, pairs, spec, on_batch=now_and_then(log)).numpy()


def _facts(base: Base, probe: Probe, fit: Fit, all_licences: bool) -> dict[str, Any]:
    return {
        "name": ProbeJudge.name,
        "version": probe.version,
        "base_name": base.name,
        "base_digest": base.digest,
        "threshold": probe.threshold,
        "strength": fit.strength,
        "held_out_source_auc": round(fit.held_out_auc, 4),
        "features": probe.spec.to_dict(),
        "categories": list(probe.categories.names) if probe.categories else [],
        "use": "research only" if all_licences else "any",
    }


def _count(rows: Sequence[JudgeRow]) -> dict[str, dict[str, int]]:
    """Rows of each source, harmful and harmless; the project's own last."""
    counts = Counter((row.source, row.label) for row in rows)
    names = sorted({source for source, _ in counts}, key=lambda name: (name == OWN, name))
    return {name: {"harmful": counts[name, 1], "harmless": counts[name, 0]} for name in names}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
