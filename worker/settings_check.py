"""Settings that would only fail in the middle of a job are refused when a process starts.

Light on purpose: `tvaccine up` looks here before it starts anything.
"""

from __future__ import annotations

from service.configurations import check_configurations
from service.settings import Settings
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.names import require_gate_name


def check_settings(settings: Settings) -> None:
    """Raise InvalidRequest (code ``invalid_settings``) naming the variable that cannot be used."""
    check_configurations(settings)
    require_judge(settings)


def require_judge(settings: Settings) -> None:
    """Raise InvalidRequest when the judge that screening and scoring need cannot be found, or may not decide."""
    if settings.judge is None:
        return
    try:
        require_gate_name(settings.judge)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"Invalid settings: TVACCINE_JUDGE: {error.message}", param="judge", code="invalid_settings"
        ) from error
