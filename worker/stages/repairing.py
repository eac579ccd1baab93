"""Repair of a tuned model whose score fails: a stage of the job's path that this version cannot run yet."""

from __future__ import annotations

from service.settings import Settings
from tvaccine_core.errors import InvalidRequest


def require_off(settings: Settings) -> None:
    """Refuse a setting that promises a repair which would not happen.

    Raises:
        InvalidRequest: repairing is switched on.
    """
    if settings.repairing != "off":
        raise InvalidRequest(
            "Invalid settings: TVACCINE_REPAIRING: no repair method is part of this version; set it to 'off'."
            " A model whose score fails stays in quarantine.",
            param="repairing",
            code="invalid_settings",
        )
