"""What a job's owner is told of the screening of his rows: lines, reasons and numbers, never a text."""

import json
from collections.abc import Mapping
from typing import Any

from service.artefacts.store import ArtefactStore
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.screening_config import Action

ROWS_TOLD = 20
"""Rows in the job itself and in its event; the listing has them all."""
_ROW = ("line", "score", "reason", "reasons", "category", "turn", "unread")
_FIGURES = ("n", "flagged", "percent", "reasons", "pairs", "sampled", "judge")
_CURSOR = "line-"


def found_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The flagged and the unscored rows of a screening's report, in the order of the file; known fields only."""
    return [{name: row.get(name) for name in _ROW} for row in report["rows"] if row["flagged"] or row.get("unread")]


def summarise(
    report: Mapping[str, Any], policy: Action, block_percent: float, unscored: Action = "report"
) -> dict[str, Any]:
    """The figures, the policies that were followed for flagged and for unscored rows, and the first rows of both."""
    rows = found_rows(report)
    figures = {name: report[name] for name in _FIGURES if name in report}
    if "unscored" in report:
        figures["unscored"] = {**report["unscored"], "policy": unscored}
    rule = {"policy": policy, "block_percent": block_percent if "block" in (policy, unscored) else None}
    return {**figures, **rule, "rows": rows[:ROWS_TOLD], "has_more": len(rows) > ROWS_TOLD}


def read_page(store: ArtefactStore, report_key: str, after: str | None, limit: int) -> list[dict[str, Any]]:
    """At most `limit` of the `found_rows` after the one with the id `after`, each with its ``id``.

    Raises InvalidRequest when `after` is no id of such a row, and NotFound when the report is gone.
    """
    rows = [{"id": row_id(row), **row} for row in found_rows(json.loads(store.read(report_key)))]
    if after is None:
        return rows[:limit]
    place = next((number for number, row in enumerate(rows) if row["id"] == after), None)
    if place is None:
        raise InvalidRequest(f"No listed row {after!r} to continue after.", param="after")
    return rows[place + 1 : place + 1 + limit]


def row_id(row: Mapping[str, Any]) -> str:
    """``line-17``: a row's id within its file."""
    return f"{_CURSOR}{row['line']}"
