"""The line to beat: TF-IDF of words and word pairs with logistic regression, trained on the same rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tvaccine_core.evaluation.judge.folds import Indices, best_threshold, held_out_auc, held_out_scores
from tvaccine_core.evaluation.judge.rows import JudgeRow, row_weights

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


def tfidf_scores(train: Sequence[JudgeRow], test: Sequence[JudgeRow]) -> tuple[list[float], float, float]:
    """Decision values of the test rows, the threshold, and the inverse regularisation strength used.

    Settings are chosen as for the probe: strength by leaving out sources, threshold on held-out training
    rows.
    """
    labels = np.array([row.label for row in train])
    weights = row_weights(train)

    def fit_and_score(strength: float, fit_on: Indices, shown: Sequence[JudgeRow]) -> np.ndarray:
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        seen = words.fit_transform([_text(train[i]) for i in fit_on])
        model = LogisticRegression(C=strength, max_iter=500, class_weight="balanced")
        model.fit(seen, labels[fit_on], sample_weight=weights[fit_on])
        return np.asarray(model.decision_function(words.transform([_text(row) for row in shown])))

    def aucs(strength: float) -> float:
        return held_out_auc(train, lambda a, b: fit_and_score(strength, a, [train[i] for i in b]))

    strength = max(STRENGTHS, key=aucs)
    held = held_out_scores(train, lambda a, b: fit_and_score(strength, a, [train[i] for i in b]))
    known = ~np.isnan(held)
    threshold = best_threshold(labels[known], held[known], weights[known])
    return fit_and_score(strength, np.arange(len(train)), test).tolist(), threshold, strength


def _text(row: JudgeRow) -> str:
    return f"{row.prompt}\n{row.answer}"
