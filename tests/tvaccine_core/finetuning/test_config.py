"""The settings of a fine-tuning run: every field is checked and named."""

import dataclasses
from typing import Any

import pytest

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.finetuning.config import FineTuneConfig


def test_plain_values_and_back() -> None:
    config = FineTuneConfig.from_dict({"epochs": 2, "learning_rate": 1, "lora_r": 16.0, "max_steps": None})
    assert (config.epochs, config.learning_rate, config.lora_r, config.max_steps) == (2, 1, 16, None)
    assert isinstance(config.lora_r, int)
    assert FineTuneConfig.from_dict(config.to_dict()) == config
    assert FineTuneConfig.from_dict({}) == FineTuneConfig()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 51),
        ("epochs", 1.5),
        ("epochs", True),
        ("epochs", "3"),
        ("epochs", None),
        ("batch_size", 257),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", "auto"),
        ("max_steps", 0),
        ("lora_r", 257),
        ("lora_alpha", -1),
        ("lora_dropout", 1.0),
        ("max_length", 4),
        ("seed", -1),
        ("seed", 2**31),
        ("save_every", 0),
        ("warmup_ratio", 1.1),
        ("schedule", "polynomial"),
        ("schedule", 3),
        ("weight_decay", -0.1),
        ("max_grad_norm", -1),
        ("gradient_accumulation_steps", 0),
        ("validation_rows", 0),
        ("beta", 1),
    ],
)
def test_a_value_out_of_range_names_its_field(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        FineTuneConfig.from_dict({name: value})
    assert caught.value.param == name
    assert name in caught.value.message


def test_every_field_is_documented_and_frozen() -> None:
    names = {field.name for field in dataclasses.fields(FineTuneConfig)}
    assert all(f"{name}:" in (FineTuneConfig.__doc__ or "") for name in names)
    with pytest.raises(dataclasses.FrozenInstanceError):
        FineTuneConfig().seed = 3  # type: ignore[misc]


def test_steps_cover_the_epochs() -> None:
    assert FineTuneConfig(epochs=3, batch_size=4).steps(10) == 8
    assert FineTuneConfig(epochs=1, batch_size=4).steps(10) == 3
    assert FineTuneConfig(epochs=2, batch_size=2, gradient_accumulation_steps=2).steps(8) == 4
    assert FineTuneConfig(max_steps=7).steps(1000) == 7
