"""Training the probe: features of the stock base, logistic regression, a calibrated threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.features import FeatureSpec
from tvaccine_core.evaluation.judge.folds import Indices, best_score_threshold, held_out_auc, held_out_scores
from tvaccine_core.evaluation.judge.probe import Probe
from tvaccine_core.evaluation.judge.rows import JudgeRow, row_weights
from tvaccine_core.models.base import Base
from tvaccine_core.models.layers import find_layers

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Inverse regularisation strengths tried, for standardised features."""


@dataclass(frozen=True)
class Fit:
    """A probe with how it came about. held_out_auc: mean over left-out sources of the training rows."""

    probe: Probe
    strength: float
    held_out_auc: float


def default_spec(base: Base) -> FeatureSpec:
    """Layers at 30, 50 and 60 % of the base's depth:

    chosen on SmolLM2-135M by held-out sources (9, 15, 18 of 30).
    """
    depth = len(find_layers(base.model))
    layers = sorted({max(1, round(depth * share)) for share in (0.3, 0.5, 0.6)})
    return FeatureSpec(tuple(layers), ("mean", "end"))


def fit_probe(rows: Sequence[JudgeRow], features: np.ndarray, spec: FeatureSpec, base: Base) -> Fit:
    """Fit a probe to the rows' features (N, D).

    The regularisation is chosen by the mean AUC on left-out sources, the threshold by balanced accuracy on
    left-out prompts; both see training rows only. Raises InvalidRequest unless both labels occur.
    """
    labels = np.array([row.label for row in rows])
    if len(set(labels.tolist())) != 2:
        raise InvalidRequest("A judge needs harmful and harmless training rows; add the missing label.", param="data")
    weights = row_weights(rows)

    def fold(strength: float, train: Indices, held: Indices) -> np.ndarray:
        weight, bias = fit_logistic(features[train], labels[train], weights[train], strength)
        return features[held] @ weight + bias

    aucs = {strength: held_out_auc(rows, partial(fold, strength)) for strength in STRENGTHS}
    strength = max(aucs, key=lambda candidate: aucs[candidate])
    held = held_out_scores(rows, partial(fold, strength))
    known: Indices = np.flatnonzero(~np.isnan(held))
    threshold = best_score_threshold([rows[i] for i in known], held[known]) if len(known) else 0.5
    weight, bias = fit_logistic(features, labels, weights, strength)
    probe = Probe(
        torch.tensor(weight, dtype=torch.float32),
        float(bias),
        threshold,
        spec,
        base.name,
        base.digest,
    )
    return Fit(probe, strength, aucs[strength])


def fit_logistic(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, strength: float
) -> tuple[np.ndarray, float]:
    """Weight (D,) and bias for unscaled features of a class-balanced logistic regression on standardised ones."""
    mean = features.mean(0, dtype=np.float64)
    scale = features.std(0, dtype=np.float64) + 1e-4
    model = LogisticRegression(C=strength, max_iter=500, class_weight="balanced")
    model.fit((features - mean) / scale, labels, sample_weight=weights)
    weight = model.coef_[0] / scale
    return weight, float(model.intercept_[0] - mean @ weight)
