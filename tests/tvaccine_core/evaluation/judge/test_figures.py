import random

import pytest
from sklearn.metrics import f1_score, roc_auc_score

from tvaccine_core.evaluation.judge.figures import auc, classification, source_aucs
from tvaccine_core.evaluation.judge.rows import JudgeRow


def row(label: int, source: str) -> JudgeRow:
    return JudgeRow("p", "a", label, source, "test")


def test_auc_agrees_with_scikit_learn_also_on_ties() -> None:
    draw = random.Random(0)
    for _ in range(20):
        labels = [draw.randint(0, 1) for _ in range(50)] + [0, 1]
        scores = [round(draw.random() + 0.3 * label, 1) for label in labels]
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_auc_by_hand() -> None:
    assert auc([0, 1], [0.1, 0.9]) == 1.0
    assert auc([0, 1], [0.9, 0.1]) == 0.0
    assert auc([0, 1], [0.5, 0.5]) == 0.5
    with pytest.raises(ValueError, match="both labels"):
        auc([1, 1], [0.1, 0.2])


def test_sources_are_weighed_alike_and_halves_are_merged() -> None:
    rows = [row(0, "pku_saferlhf_safe"), row(1, "pku_saferlhf_unsafe"), row(1, "only_harmful")]
    rows += [row(0, "mixed"), row(1, "mixed"), row(1, "mixed")]
    found = source_aucs(rows, [0.2, 0.8, 0.0, 0.5, 0.9, 0.1])
    assert found == {"mixed": 0.5, "pku_saferlhf": 1.0, "mean": 0.75}
    assert source_aucs([row(1, "x")], [0.5]) == {}


def test_classification_agrees_with_scikit_learn() -> None:
    labels, flagged = [1, 1, 1, 0, 0, 0, 0], [True, True, False, True, False, False, False]
    found = classification([row(label, "x") for label in labels], flagged)
    assert found["accuracy"] == pytest.approx(5 / 7)
    assert found["f1"] == pytest.approx(f1_score(labels, flagged))
    assert (found["false_alarms"], found["missed"], found["n"]) == (0.25, pytest.approx(1 / 3), 7)
    assert classification([], [])["f1"] == 0
