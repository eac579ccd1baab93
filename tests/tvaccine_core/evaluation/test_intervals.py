import pytest

from tvaccine_core.evaluation.intervals import wilson


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # statsmodels.stats.proportion.proportion_confint(k, n, method="wilson")
        (5, 48, 0.0453, 0.2217),
        (0, 48, 0.0, 0.0741),
        (48, 48, 0.9259, 1.0),
        (20, 144, 0.0918, 0.2048),
        (1, 2, 0.0945, 0.9055),
    ],
)
def test_known_intervals(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=1e-4)


def test_the_ends_solve_the_score_equation() -> None:
    # Definition: |share - p| = z sqrt(p (1 - p) / n) at both ends p.
    z = 1.959964
    for k, n in [(3, 10), (17, 60), (100, 144)]:
        for p in wilson(k, n):
            assert abs(k / n - p) == pytest.approx(z * (p * (1 - p) / n) ** 0.5, rel=1e-9)


def test_nothing_tried_is_nothing_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_more_prompts_narrow_the_interval() -> None:
    widths = [high - low for low, high in (wilson(n // 4, n) for n in (8, 48, 96, 144, 1000))]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="need"):
        wilson(k, n)
