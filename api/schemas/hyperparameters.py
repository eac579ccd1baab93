"""Hyperparameters on the wire: each is a number or `"auto"`, and a wrong one gives a single plain fault."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def auto_or_whole(low: int, high: int) -> Callable[[Any], Any]:
    """A check that passes `"auto"` and whole numbers from `low` to `high`."""

    def check(value: Any) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        if not whole and value != "auto":
            raise ValueError(f"Use 'auto' or a whole number from {low} to {high}.")
        return value

    return check


def auto_or_positive(value: Any) -> Any:
    """Pass `"auto"` and finite numbers above zero."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "auto" and not (number and math.isfinite(value) and value > 0):
        raise ValueError("Use 'auto' or a number above 0.")
    return value


Auto = Literal["auto"]
Epochs = Annotated[Annotated[int, Field(ge=1, le=50)] | Auto, BeforeValidator(auto_or_whole(1, 50))]
BatchSize = Annotated[Annotated[int, Field(ge=1, le=256)] | Auto, BeforeValidator(auto_or_whole(1, 256))]
Multiplier = Annotated[Annotated[float, Field(gt=0)] | Auto, BeforeValidator(auto_or_positive)]


class Hyperparameters(BaseModel):
    """How to train. `"auto"` leaves the choice to the server."""

    model_config = ConfigDict(extra="forbid")

    n_epochs: Epochs = "auto"
    batch_size: BatchSize = "auto"
    learning_rate_multiplier: Multiplier = "auto"
