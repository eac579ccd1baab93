"""Settings that would only fail in the middle of a job are refused when a process starts.

Light on purpose: `tvaccine up` looks here before it starts anything.
"""

from __future__ import annotations

from service.configurations import check_configurations
from service.settings import Settings
from tvaccine_core.errors import InvalidRequest
from worker.stages.repairing import require_off


def check_settings(settings: Settings) -> None:
    """Raise InvalidRequest (code ``invalid_settings``) naming the variable that cannot be used."""
    check_configurations(settings)
    require_judge(settings)
    require_off(settings)


def require_judge(settings: Settings) -> None:
    """Raise InvalidRequest when the judge that screening and scoring need cannot be found."""
    if settings.judge_dir is not None and not settings.judge_dir.is_dir():
        raise InvalidRequest(
            f"Invalid settings: TVACCINE_JUDGE_DIR: {settings.judge_dir} is not a directory.",
            param="judge_dir",
            code="invalid_settings",
        )
