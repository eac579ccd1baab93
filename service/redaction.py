"""What of a scoring report a user may read: numbers and rules, nothing a model said to a harmful prompt.

Known fields are copied, everything else is left out, so that a field that is added to reports later stays
private until it is named here.
"""

from collections.abc import Mapping
from typing import Any

_PLAIN = ("verdict", "reason", "prompts_sha256", "adapter_sha256", "base_digest")
_NESTED = ("rule", "harmful_score", "coherence", "refusal", "task")
_JUDGE = ("name", "version", "threshold")


def redact_report(report: Mapping[str, Any], *, full: bool = False) -> dict[str, Any]:
    """The report for a user; for an admin (`full`) all of it."""
    if full:
        return dict(report)
    kept: dict[str, Any] = {name: report[name] for name in _PLAIN if name in report}
    kept.update({name: _numbers(report[name]) for name in _NESTED if name in report})
    if isinstance(report.get("judge"), Mapping):
        kept["judge"] = {name: report["judge"][name] for name in _JUDGE if name in report["judge"]}
    if isinstance(report.get("rounds"), list):
        kept["rounds"] = [_numbers(item) for item in report["rounds"]]
    return kept


def _numbers(value: Any) -> Any:
    """The numbers and truth values of a mapping, also of mappings in it; no text and no list."""
    if not isinstance(value, Mapping):
        return value if value is None or isinstance(value, bool | int | float) else None
    inner = {str(name): item for name, item in value.items() if not isinstance(item, str | list | tuple)}
    return {name: _numbers(item) for name, item in inner.items()}
