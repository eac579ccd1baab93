import math
from itertools import pairwise

import pytest

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.metrics.landscape.config import LandscapeConfig
from tvaccine_core.metrics.landscape.visage import basin_width, mean_visage, visage

ALPHAS = LandscapeConfig().alphas


def line(scores: list[float]) -> list[tuple[float, float]]:
    return list(zip(ALPHAS, scores, strict=True))


def step(width: int) -> list[float]:
    """0 at the centre and `width` points on either side, 100 elsewhere."""
    return [0.0 if abs(place - 10) <= width else 100.0 for place in range(21)]


@pytest.mark.parametrize(("constant", "expected"), [(0.0, 100.0), (37.5, 62.5), (99.0, 1.0), (100.0, 0.0)])
def test_a_constant_score(constant: float, expected: float) -> None:
    assert visage(line([constant] * 21)) == expected


def test_nothing_measured_is_no_safety() -> None:
    assert visage([]) == 0.0
    assert basin_width([]) is None


@pytest.mark.parametrize("width", range(11))
def test_a_step_pattern_gives_100_whatever_its_width(width: int) -> None:
    # The published script gives 4.8 where only the centre is safe (width 0).
    assert visage(line(step(width))) == 100.0


def test_a_mirrored_score_has_the_same_visage_and_width() -> None:
    scores = [100.0, 100.0, 90.0, 40.0, 12.5, 0.0, 3.0, 60.0, 20.0, 100.0, 5.0] + [33.0] * 10
    mirrored = [(-alpha, score) for alpha, score in line(scores)]
    assert visage(mirrored) == visage(line(scores))
    assert basin_width(mirrored) == basin_width(line(scores))


def test_safe_points_outside_the_basin_count() -> None:
    scores = step(2)
    scores[0] = 50.0  # the published script drops it
    assert visage(line(scores)) == pytest.approx((5 * 100 + 50) / 6)


def test_points_at_the_maximum_do_not_count() -> None:
    assert visage([(0.0, 20.0), (0.1, 100.0), (0.2, 40.0)]) == 70.0


def test_the_mean_is_over_directions_not_points() -> None:
    assert mean_visage([line(step(3)), [(0.0, 50.0)], [(0.0, 100.0)]]) == 50.0
    with pytest.raises(InvalidRequest):
        mean_visage([])


def test_the_width_is_the_largest_safe_step() -> None:
    assert basin_width(line(step(0))) == 0.0
    assert basin_width(line(step(4))) == 0.2
    assert basin_width(line(step(10))) == 0.5
    assert basin_width(line([50.0] * 21)) is None  # 50 is not below 50
    assert basin_width(line([50.0] * 21), below=51) == 0.5


@pytest.mark.parametrize("score", [-0.1, 100.1, math.nan])
def test_a_score_is_a_percentage(score: float) -> None:
    with pytest.raises(InvalidRequest):
        visage([(0.0, score)])


def test_the_sampled_steps_are_the_papers() -> None:
    assert len(ALPHAS) == 21
    assert ALPHAS[0] == -0.5
    assert ALPHAS[10] == 0.0
    assert ALPHAS[-1] == 0.5
    assert all(low == -high for low, high in zip(ALPHAS, reversed(ALPHAS), strict=True))
    assert all(b - a == pytest.approx(0.05) for a, b in pairwise(ALPHAS))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("radius", 0.0),
        ("radius", math.inf),
        ("steps", 21),
        ("steps", 0),
        ("seeds", ()),
        ("seeds", (1, 1)),
        ("weights", "base"),
        ("below", 101),
    ],
)
def test_impossible_settings_name_their_field(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as error:
        LandscapeConfig(**{field: value})  # type: ignore[arg-type]
    assert error.value.param == field
