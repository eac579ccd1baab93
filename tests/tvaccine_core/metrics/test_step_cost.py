from typing import Any

import pytest

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.metrics.step_cost import step_cost


def lines(steps: int, seconds: float = 2.0) -> list[dict[str, Any]]:
    return [{"t": 1000 + seconds * step, "step": step, "loss": 1.0} for step in range(1, steps + 1)]


def test_the_median_leaves_slow_steps_and_gaps_aside() -> None:
    noted = lines(211)
    for line in noted[50:]:  # a run that was resumed an hour later
        line["t"] += 3600
    noted.insert(60, {"t": noted[59]["t"] + 30, "step": 60, "valid_loss": 1.0})
    found = step_cost(noted)
    assert found.seconds == pytest.approx(2.0)
    assert found.steps == 200
    assert found.enough


def test_the_first_steps_are_not_counted() -> None:
    noted = lines(40)
    for line in noted[:10]:
        line["t"] -= 500
    assert step_cost(noted).seconds == pytest.approx(2.0)
    assert not step_cost(noted).enough
    assert step_cost(lines(40, 3.0)).relative_to(step_cost(noted)) == pytest.approx(1.5)


def test_a_missing_step_is_no_long_step() -> None:
    noted = lines(40)
    del noted[20]
    assert step_cost(noted).steps == 27


def test_too_short_a_run_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        step_cost(lines(11))
