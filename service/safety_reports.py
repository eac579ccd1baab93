"""Safety reports in the artefact store: ``report.json`` and, where it could be drawn, ``report.png`` under one key."""

import json
from collections.abc import Mapping
from typing import Any

from service.artefacts.store import ArtefactStore
from service.db.models import CANCELLED, SUCCEEDED
from tvaccine_core.evaluation.report.document import Outcome, ScoringReport, parse_report
from tvaccine_core.evaluation.report.redacted import without_texts

REPORT, PICTURE = "report.json", "report.png"
QUARANTINED: Outcome = "quarantined"


def outcome_of(*, passed: bool, repaired: bool) -> Outcome:
    """What a job's scoring leads to."""
    if not passed:
        return QUARANTINED
    return "repaired_and_released" if repaired else "released"


def read_report(store: ArtefactStore, key: str, *, state: str | None = None) -> dict[str, Any]:
    """The whole report, texts included. Raises NotFound.

    state: the job's, now: see `borne_out`. None: the report as it was written.
    Earlier versions stored the report alone, as a file.
    """
    name = REPORT if store.path(key).is_dir() else None
    report: dict[str, Any] = json.loads(store.read(key, name))
    return report if state is None else borne_out(report, state)


def borne_out(report: Mapping[str, Any], state: str) -> dict[str, Any]:
    """The report, its outcome null where the job's state does not bear it out.

    A report is written before the release, and its job may end otherwise: it is cancelled, or its workers die.
    """
    outcome = report.get("outcome")
    stands = state not in (SUCCEEDED, CANCELLED) if outcome == QUARANTINED else state == SUCCEEDED
    return dict(report) if outcome is None or stands else {**report, "outcome": None}


def read_document(store: ArtefactStore, key: str, *, full: bool, state: str | None = None) -> ScoringReport:
    """The report by its published schema, without any text of a prompt or an answer unless `full`.

    state: as for `read_report`. Raises NotFound, and InvalidRequest for a report of an earlier version.
    """
    document = parse_report(read_report(store, key, state=state))
    return document if full else without_texts(document)


def read_picture(store: ArtefactStore, key: str) -> bytes | None:
    """The picture (PNG); None if there is none. It shows no text of a prompt or an answer. Raises NotFound."""
    if not store.path(key).is_dir() or PICTURE not in store.names(key):
        return None
    return store.read(key, PICTURE)
