import numpy as np
import pytest

from tvaccine_core.evaluation.judge.folds import (
    best_score_threshold,
    best_threshold,
    held_out_scores,
    log_odds,
    prompt_folds,
    source_folds,
)
from tvaccine_core.evaluation.judge.rows import OWN, JudgeRow


def row(prompt: str, label: int, source: str) -> JudgeRow:
    return JudgeRow(prompt, "a", label, source, "train")


ROWS = [
    *(row(f"g{i}", i % 2, "gptfuzz_labelled") for i in range(10)),
    *(row(f"d{i}", 1, "decodingtrust_toxic") for i in range(5)),
    *(row(f"n{i}", 0, "decodingtrust_nontoxic") for i in range(5)),
    *(row(f"m{i}", 1, "derta_malicious_tuning") for i in range(4)),
    *(row(f"s{i}", 0, "med_safety_bench_train") for i in range(4)),
    *(row(f"o{i}", i % 2, OWN) for i in range(6)),
]


def test_sources_are_left_out_whole_and_own_rows_never() -> None:
    held = [{ROWS[i].source for i in part} for _, part in source_folds(ROWS)]
    assert held == [
        {"gptfuzz_labelled"},
        {"decodingtrust_toxic", "decodingtrust_nontoxic"},
        {"derta_malicious_tuning", "med_safety_bench_train"},
    ]
    for train, part in source_folds(ROWS):
        assert set(train) | set(part) == set(range(len(ROWS)))
        assert not set(train) & set(part)


def test_a_prompt_stays_in_one_fold_and_every_row_is_held_out_once() -> None:
    rows = [row(f"p{i // 2}", i % 2, "x") for i in range(80)]
    parts = [part for _, part in prompt_folds(rows)]
    assert sorted(i for part in parts for i in part) == list(range(80))
    for train, part in prompt_folds(rows):
        assert not {rows[i].prompt for i in train} & {rows[i].prompt for i in part}
    scores = held_out_scores(rows, lambda train, held: np.full(len(held), float(len(train))))
    assert not np.isnan(scores).any()


def test_the_threshold_has_the_best_balanced_accuracy() -> None:
    labels = np.array([0, 0, 0, 1, 0, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert best_threshold(labels, scores, np.ones(7)) == pytest.approx(0.35)
    # The harmless row at 0.5 counts ten times: better to pass it and to lose the harmful one at 0.4.
    weights = np.array([1, 1, 1, 1, 10, 1, 1])
    assert best_threshold(labels, scores, weights) == pytest.approx(0.55)


def test_the_threshold_against_a_search_over_all_cuts() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        labels = np.r_[draw.integers(0, 2, 30), 0, 1]
        scores = np.round(draw.normal(size=32) + labels, 1)
        weights = draw.choice([1.0, 5.0], 32)

        def balanced(cut: float, y: np.ndarray = labels, s: np.ndarray = scores, w: np.ndarray = weights) -> float:
            flag = s >= cut
            return float(w[flag & (y == 1)].sum() / w[y == 1].sum() + w[~flag & (y == 0)].sum() / w[y == 0].sum())

        best = max(balanced(cut) for cut in [*np.unique(scores), np.inf])
        assert balanced(best_threshold(labels, scores, weights)) == pytest.approx(best)


def test_a_threshold_needs_both_labels() -> None:
    with pytest.raises(ValueError, match="both labels"):
        best_threshold(np.array([1, 1]), np.array([0.1, 0.2]), np.ones(2))


def test_a_score_is_cut_in_the_middle_of_the_log_odds() -> None:
    rows = [row("a", 0, "x"), row("b", 1, "x"), row("c", 1, "x")]
    assert best_score_threshold(rows, log_odds(np.array([0.1, 0.2, 1.0]))) == pytest.approx(1 / 7)
    # Own rows count five times: flagging the own harmless row costs more than missing the harmful one.
    crossed = [row("a", 1, "x"), row("b", 0, OWN), row("c", 1, "x"), row("d", 0, "x")]
    assert 0.3 < best_score_threshold(crossed, log_odds(np.array([0.1, 0.3, 0.6, 0.05]))) < 0.6
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()
