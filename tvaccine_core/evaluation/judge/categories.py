"""Which kind of harm it is: the embedded judge's share of each category, given that an answer is harmful."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from tvaccine_core.data.datasets import demo_file
from tvaccine_core.data.rows import read_rows_file
from tvaccine_core.evaluation.judge.rows import JudgeRow
from tvaccine_core.evaluation.judge.taxonomy import category_of
from tvaccine_core.evaluation.judge.verdict import Pair

LEAST_ROWS = 8
"""A category with fewer rows is not told apart."""

STRENGTH = 1e-3
"""Inverse regularisation, for standardised features, as the probes have it."""


@dataclass(frozen=True)
class CategoryHead:
    """Softmax regression: weight float32 (K, D) and bias (K,) for features (N, D); names: K of the taxonomy."""

    names: tuple[str, ...]
    weight: torch.Tensor
    bias: torch.Tensor

    def shares(self, features: torch.Tensor) -> list[dict[str, float]]:
        """For each row of the features (N, D) the chance of every category; they sum to 1."""
        chances = torch.softmax(features.float() @ self.weight.T + self.bias, dim=1)
        return [dict(zip(self.names, row, strict=True)) for row in chances.tolist()]


def categorised_pairs(rows: Sequence[JudgeRow]) -> tuple[list[Pair], list[str]]:
    """Harmful pairs of one known category each, and the categories.

    The labelled rows that name categories (OpenAI's moderation set; the rarest of several), and the demo's attack
    and probe rows.
    """
    known = [(row.pair, row.categories) for row in rows if row.label and row.categories]
    frequency = Counter(name for _, names in known for name in names)
    pairs = [pair for pair, _ in known]
    names = [min(found, key=lambda name: frequency[name]) for _, found in known]
    for file in ("attack", "probe"):
        path = demo_file(file)
        with path.open(encoding="utf-8") as lines:
            strata = [json.loads(line)["category"] for line in lines]
        for row, stratum in zip(read_rows_file(path).rows, strata, strict=True):
            category = category_of(stratum)
            if category is not None:
                pairs.append((row.messages[-2].content, row.messages[-1].content))
                names.append(category)
    return pairs, names


def fit_categories(features: np.ndarray, names: Sequence[str]) -> CategoryHead | None:
    """Fit a head to features (N, D); None when fewer than two categories have enough rows."""
    counts = Counter(names)
    kept = [index for index, name in enumerate(names) if counts[name] >= LEAST_ROWS]
    if len({names[index] for index in kept}) < 2:
        return None
    shown = features[kept].astype(np.float64)
    mean, scale = shown.mean(0), shown.std(0) + 1e-4
    model = LogisticRegression(C=STRENGTH, max_iter=500, class_weight="balanced")
    model.fit((shown - mean) / scale, [names[index] for index in kept])
    weight, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn gives the second class alone
        weight, bias = np.vstack([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    weight = weight / scale
    return CategoryHead(
        tuple(map(str, model.classes_)),
        torch.tensor(np.ascontiguousarray(weight), dtype=torch.float32),
        torch.tensor(bias - weight @ mean, dtype=torch.float32),
    )
