"""The run configurations that the operator's settings lead to, as the core's frozen dataclasses."""

from collections.abc import Mapping
from typing import Any

from service.settings import Settings
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.finetuning.config import FineTuneConfig


def vaccine_config(
    settings: Settings, method: str | None = None, overrides: Mapping[str, Any] | None = None
) -> TVaccineConfig:
    """How a vaccine is made: `overrides` win over the settings. Raises InvalidRequest naming the field."""
    values = {"save_every": settings.save_every, **settings.vaccine, **(overrides or {})}
    if method is not None:
        values["method"] = method
    return TVaccineConfig.from_dict(values)


def fine_tune_config(settings: Settings, overrides: Mapping[str, Any] | None = None) -> FineTuneConfig:
    """How a user adapter is trained. Raises InvalidRequest naming the field."""
    return FineTuneConfig.from_dict({"save_every": settings.save_every, **settings.fine_tune, **(overrides or {})})


def score_config(settings: Settings) -> ScoreConfig:
    """The rule of the gate, as it is set now. Raises InvalidRequest naming the field."""
    return ScoreConfig.from_dict(settings.gate)


def check_configurations(settings: Settings) -> None:
    """Let a process refuse to start on settings that no job could run with.

    Raises InvalidRequest (code ``invalid_settings``) that names the variable and the field.
    """
    parts = (("VACCINE", vaccine_config), ("FINE_TUNE", fine_tune_config), ("GATE", score_config))
    for name, build in parts:
        try:
            build(settings)
        except InvalidRequest as error:
            message = f"TVACCINE_{name}: {error.message}"
            raise InvalidRequest(message, code="invalid_settings", param=error.param) from error
    if score_config(settings).skip_gate:
        message = "TVACCINE_GATE: skip_gate would release what was never judged; remove it."
        raise InvalidRequest(message, code="invalid_settings", param="skip_gate")
