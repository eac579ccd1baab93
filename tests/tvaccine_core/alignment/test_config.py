import pytest

from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.errors import InvalidRequest


def test_round_trip():
    config = TVaccineConfig(rho=3.0, gamma=4, memory_budget_gb=2.0)
    assert TVaccineConfig.from_dict(config.to_dict()) == config
    assert TVaccineConfig.from_dict({}) == TVaccineConfig()


def test_json_has_one_number_type():
    config = TVaccineConfig.from_dict({"rho": 3, "gamma": 8.0})
    assert isinstance(config.rho, float)
    assert isinstance(config.gamma, int)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rho", -1.0),
        ("rho", float("nan")),
        ("rho", "3"),
        ("gamma", 0),
        ("gamma", 2.5),
        ("gamma", True),
        ("method", "lisa"),
        ("select", "random"),
        ("scheme", "fast"),
        ("freeze_scope", "mlp"),
        ("schedule", "triangle"),
        ("mlp_below", 1),
        ("steps", 0),
        ("memory_budget_gb", 0),
        ("learning_rate", 0.0),
        ("seed", -1),
        ("probe_batch", None),
        ("tpyo", 1),
    ],
)
def test_the_field_at_fault_is_named(field, value):
    with pytest.raises(InvalidRequest) as error:
        TVaccineConfig.from_dict({field: value})
    assert error.value.param == field
    assert field in error.value.message


def test_who_needs_harmful_rows():
    assert TVaccineConfig().needs_harmful_rows
    assert not TVaccineConfig(method="vaccine").needs_harmful_rows
    assert not TVaccineConfig(method="sft").needs_harmful_rows
    assert not TVaccineConfig(select="uniform").needs_harmful_rows
