"""The order of rows: every row once a pass, a new order each pass, and the same for the same seed."""

import pytest

from tvaccine_core.training.order import ShuffledPasses


def test_each_pass_holds_every_row_once() -> None:
    rows = list("abcdefg")
    draws = ShuffledPasses(rows, 23, seed=3)
    seen = [draws[i] for i in range(23)]
    assert sorted(seen[:7]) == sorted(seen[7:14]) == rows
    assert seen[:7] != seen[7:14]
    assert len(set(seen[21:])) == 2


def test_the_order_depends_on_the_seed_alone_and_not_on_where_reading_starts() -> None:
    rows = list(range(50))
    whole = [ShuffledPasses(rows, 200, seed=1)[i] for i in range(200)]
    late = ShuffledPasses(rows, 200, seed=1)
    assert [late[i] for i in range(120, 200)] == whole[120:]
    assert [late[i] for i in range(40, 60)] == whole[40:60]
    assert [ShuffledPasses(rows, 200, seed=2)[i] for i in range(200)] != whole


def test_the_ends_are_checked() -> None:
    draws = ShuffledPasses([1], 2, seed=0)
    assert len(draws) == 2
    for place in (2, -1):
        with pytest.raises(IndexError):
            draws[place]
    with pytest.raises(ValueError, match="no rows"):
        ShuffledPasses([], 2, seed=0)
