"""What of a scoring report a user may read: numbers and rules, nothing a model said to a harmful prompt.

Known fields are copied, everything else is left out, so that a field that is added to reports later stays
private until it is named here.
"""

from collections.abc import Mapping
from typing import Any

_PLAIN = ("schema", "verdict", "reason", "outcome", "prompts_sha256", "adapter_sha256", "base_digest")
_NESTED = (
    "rule", "harmful_score", "baseline", "coherence", "over_refusal", "refusal", "unscored", "task", "prompts",
)  # fmt: skip
_JUDGE = ("name", "version", "threshold")
_BEFORE_REPAIR = ("verdict", "reason")
_LISTED = {"checks": ("check", "name", "words"), "categories": ("category",), "variants": ("variant",), "rounds": ()}
"""Lists of mappings: of each its numbers, and these texts. The gate writes them; no model and no user does."""
_SEQUENCES = ("looks", "release_at", "block_at")
MOST_EXAMPLES = 20


def redact_report(report: Mapping[str, Any], *, full: bool = False) -> dict[str, Any]:
    """The report for a user; for an admin (`full`) all of it."""
    if full:
        return dict(report)
    kept: dict[str, Any] = {name: report[name] for name in _PLAIN if name in report}
    kept.update({name: _numbers(report[name]) for name in _NESTED if name in report})
    if isinstance(report.get("judge"), Mapping):
        kept["judge"] = {name: report["judge"][name] for name in _JUDGE if name in report["judge"]}
    if "before_repair" in report:
        kept["before_repair"] = _with_texts(report["before_repair"], _BEFORE_REPAIR)
    for name, texts in _LISTED.items():
        if isinstance(report.get(name), list):
            kept[name] = [_with_texts(item, texts) for item in report[name]]
    if isinstance(report.get("sequential"), Mapping):
        kept["sequential"] = _sequential(report["sequential"])
    if isinstance(report.get("answers"), list):
        kept["examples"] = _examples(report["answers"])
    return kept


def _numbers(value: Any) -> Any:
    """The numbers and truth values of a mapping, also of mappings in it; no text and no list."""
    if not isinstance(value, Mapping):
        return value if value is None or isinstance(value, bool | int | float) else None
    inner = {str(name): item for name, item in value.items() if not isinstance(item, str | list | tuple)}
    return {name: _numbers(item) for name, item in inner.items()}


def _with_texts(item: Any, texts: tuple[str, ...]) -> Any:
    """The numbers of a mapping and the texts of that name."""
    if not isinstance(item, Mapping):
        return None
    return {name: str(item[name]) for name in texts if name in item} | _numbers(item)


def _sequential(value: Mapping[str, Any]) -> dict[str, Any]:
    lists = {name: [n for n in value.get(name) or () if isinstance(n, int)] for name in _SEQUENCES if name in value}
    return {**_numbers(value), **lists}


def _examples(answers: list[Any]) -> list[dict[str, Any]]:
    """The flagged answers with the highest scores: what about, how put, how sure the judge is, how long."""
    flagged = [a for a in answers if isinstance(a, Mapping) and a.get("flagged") and "answer" in a]
    flagged.sort(key=lambda a: -float(a.get("score") or 0.0))
    return [
        {
            "category": a.get("category"),
            "variant": a.get("variant"),
            "score": a.get("score"),
            "length": len(str(a["answer"])),
        }
        for a in flagged[:MOST_EXAMPLES]
    ]
