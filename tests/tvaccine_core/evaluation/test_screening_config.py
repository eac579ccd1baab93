from typing import Any

import pytest

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.screening_config import ScreenConfig


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"threshold": 1.1}, "threshold"),
        ({"threshold": "high"}, "threshold"),
        ({"part_margin": -0.1}, "part_margin"),
        ({"block_percent": 101}, "block_percent"),
        ({"block_percent": True}, "block_percent"),
        ({"block_percent": float("nan")}, "block_percent"),
        ({"similarity": 0}, "similarity"),
        ({"share": 5}, "share"),
        ({"unscored": "ignore"}, "unscored"),
        ({"unscored": ["drop"]}, "unscored"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match=param) as refused:
        ScreenConfig.from_dict(values)
    assert refused.value.param == param


def test_it_survives_json() -> None:
    config = ScreenConfig(threshold=0.7, block_percent=0, unscored="drop")
    assert ScreenConfig.from_dict(config.to_dict()) == config
    assert ScreenConfig.from_dict({}) == ScreenConfig()
    assert ScreenConfig().unscored == "report"
