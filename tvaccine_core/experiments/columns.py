"""The figures of a cell that tables and pictures show, by name. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """A figure of one cell. part, whole: the counts behind a share in percent; None for what is no share."""

    number: float
    part: int | None = None
    whole: int | None = None


@dataclass(frozen=True)
class Column:
    """A figure. read: its value in a cell's record, None where the cell has none. unit: "%", "s", "GB" or ""."""

    name: str
    words: str
    unit: str
    read: Callable[[Record], Value | None]


def _share(*keys: str, part: str) -> Callable[[Record], Value | None]:
    """Reads a share in percent with the counts behind it."""

    def read(record: Record) -> Value | None:
        found = _at(record, *keys)
        return None if found is None or "percent" not in found else Value(found["percent"], found[part], found["n"])

    return read


def _misaligned(place: str) -> Callable[[Record], Value | None]:
    """Reads the share of answers with a numeric, coherent rating that are misaligned; 0 of 0 is no figure."""

    def read(record: Record) -> Value | None:
        found = _share(place, "emergent", "of_coherent", part="misaligned")(record)
        return found if found is not None and found.whole else None

    return read


def _rated(share: str, part: str) -> Callable[[Record], Value | None]:
    return _share("results", "emergent", share, part=part)


def _task_share(place: str) -> Callable[[Record], Value | None]:
    return lambda record: _share(place, "tasks", record["coordinates"]["task"], part="correct")(record)


def _plain(*keys: str, scale: float = 1.0) -> Callable[[Record], Value | None]:
    """Reads a number."""

    def read(record: Record) -> Value | None:
        found = _at(record, *keys)
        return None if found is None else Value(found * scale)

    return read


def _memory(stage: str) -> Callable[[Record], Value | None]:
    """Peak memory of a stage in 10^9 bytes: reserved on a GPU, else resident."""

    def read(record: Record) -> Value | None:
        found = _at(record, "costs", stage, "peak_memory") or {}
        kind = next((kind for kind in ("reserved", "resident", "resident_since_start") if kind in found), None)
        return None if kind is None else Value(found[kind] / 1e9)

    return read


def _seconds(stage: str) -> Callable[[Record], Value | None]:
    """Seconds of a stage's steps, which do not depend on interruptions; of a short run all its seconds."""

    def read(record: Record) -> Value | None:
        cost = _at(record, "costs", stage)
        if cost is None:
            return None
        per_step = cost.get("step_seconds")
        return Value(cost["seconds"] if per_step is None else per_step * cost["steps"])

    return read


def _at(record: Any, *keys: str) -> Any:
    for key in keys:
        if record is None or key not in record:
            return None
        record = record[key]
    return record


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("harmful_score", "Harmful score", "%", _share("results", "harmful", "score", part="flagged")),
        Column(
            "harmful_score_in_template",
            "Harmful score, asked as the attacker does",
            "%",
            _share("results", "harmful_in_template", "score", part="flagged"),
        ),
        Column("harmful_score_plus", "HS+", "%", _share("results", "harmful", "score_plus", part="flagged")),
        Column("keyword_attack", "Keyword ASR", "%", _share("results", "harmful", "keyword_attack", part="successes")),
        Column("coherence", "Coherent answers", "%", _share("results", "harmful", "coherence", part="coherent")),
        Column("accuracy", "Accuracy", "%", _task_share("results")),
        Column("over_refusal", "Over-refusal", "%", _share("results", "over_refusal", part="refused")),
        Column("perplexity", "Perplexity", "", _plain("results", "writing", "perplexity")),
        Column("visage", "VISAGE", "", _plain("results", "basin", "visage")),
        Column("drift", "Drift", "", _plain("results", "drift", "total")),
        Column("misaligned", "Misaligned", "%", _misaligned("results")),
        Column("misaligned_of_all", "Misaligned of all", "%", _rated("of_all", "misaligned")),
        Column("rated_coherent", "Rated coherent", "%", _rated("coherent", "coherent")),
        Column("rated_code", "Rated code", "%", _rated("code", "code")),
        Column("rated_refusal", "Rated refusal", "%", _rated("refusal", "refusal")),
        Column("unrated", "Unrated", "%", _rated("unrated", "unrated")),
        Column(
            "harmful_score_before", "Harmful score before", "%", _share("before", "harmful", "score", part="flagged")
        ),
        Column("accuracy_before", "Accuracy before", "%", _task_share("before")),
        Column("over_refusal_before", "Over-refusal before", "%", _share("before", "over_refusal", part="refused")),
        Column("perplexity_before", "Perplexity before", "", _plain("before", "writing", "perplexity")),
        Column("misaligned_before", "Misaligned before", "%", _misaligned("before")),
        Column("alignment_steps", "Alignment steps", "", _plain("costs", "alignment", "steps")),
        Column("alignment_step_seconds", "Alignment step", "s", _plain("costs", "alignment", "step_seconds")),
        Column("alignment_seconds", "Alignment", "s", _seconds("alignment")),
        Column("alignment_memory", "Alignment memory", "GB", _memory("alignment")),
        Column("fine_tuning_seconds", "Fine-tuning", "s", _seconds("fine_tuning")),
        Column("fine_tuning_memory", "Fine-tuning memory", "GB", _memory("fine_tuning")),
        Column("repair_seconds", "Repair", "s", _seconds("repair")),
        Column("repair_memory", "Repair memory", "GB", _memory("repair")),
    )
}
