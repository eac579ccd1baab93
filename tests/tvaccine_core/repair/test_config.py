"""The settings of a repair."""

import dataclasses
from typing import Any

import pytest

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.finetuning.panacea_config import PanaceaConfig
from tvaccine_core.repair.config import RepairConfig


def test_plain_values_and_back() -> None:
    config = RepairConfig.from_dict({"steps": 4.0, "panacea": {"rho": 2, "final_rows": 8}})
    assert (config.steps, config.panacea) == (4, PanaceaConfig(rho=2, final_rows=8))
    assert RepairConfig.from_dict(config.to_dict()) == config
    assert RepairConfig.from_dict({}) == RepairConfig()


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"steps": 0}, "steps"),
        ({"schedule": "polynomial"}, "schedule"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"epochs": 3}, "epochs"),
        ({"panacea": "strong"}, "panacea"),
        ({"panacea": {"rho": -1}}, "rho"),
        ({"panacea": {"name": "lisa"}}, "name"),
    ],
)
def test_what_cannot_be_used_names_its_field(values: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        RepairConfig.from_dict(values)
    assert caught.value.param == param


def test_every_field_is_documented() -> None:
    names = {field.name for field in dataclasses.fields(RepairConfig)}
    assert all(f"{name}:" in (RepairConfig.__doc__ or "") for name in names)


def test_it_is_a_fine_tuning_of_an_adapter_that_is_there() -> None:
    config = RepairConfig(steps=7, batch_size=2, learning_rate=1e-3, seed=5)
    same = config.as_fine_tuning(lora_r=4, lora_alpha=16, lora_dropout=0.1)
    assert (same.steps(1000), same.batch_size, same.learning_rate, same.seed) == (7, 2, 1e-3, 5)
    assert (same.lora_r, same.lora_alpha, same.lora_dropout, same.schedule) == (4, 16, 0.1, "constant")
