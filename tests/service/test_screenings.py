import io
import json
from pathlib import Path
from typing import Any

import pytest

from service.artefacts.store import ArtefactStore
from service.screenings import ROWS_TOLD, found_rows, read_page, summarise
from tvaccine_core.errors import InvalidRequest


def report(flagged: int, n: int = 50) -> dict[str, Any]:
    found = {"reason": "encoded", "reasons": ["encoded"], "category": None, "turn": 1, "text": "SECRET"}
    rows = [{"line": n, "score": 0.9, "flagged": True, **found} for n in range(1, flagged + 1)]
    rows += [{"line": line, "score": 0.1, "flagged": False} for line in range(flagged + 1, n + 1)]
    figures = {"n": n, "flagged": flagged, "percent": 100 * flagged / n, "reasons": {"encoded": flagged}}
    return {"rows": rows, **figures, "pairs": 7, "judge": {"name": "j"}, "base_digest": "sha256:x"}


def test_only_known_fields_of_flagged_rows_leave() -> None:
    assert len(found_rows(report(3))) == 3
    assert "SECRET" not in json.dumps(found_rows(report(3)))


def unscored_report() -> dict[str, Any]:
    """Row 1 is flagged, row 50 unscored."""
    one = report(1)
    one["rows"][-1] |= {"score": None, "reason": "unscored", "reasons": ["unscored"], "turn": 1, "unread": "German"}
    return {**one, "unscored": {"n": 1, "percent": 2.0, "reasons": {"German": 1}}}


def test_unscored_rows_are_told_with_the_flagged_ones() -> None:
    assert [(row["line"], row["score"], row["unread"]) for row in found_rows(unscored_report())] == [
        (1, 0.9, None),
        (50, None, "German"),
    ]
    summary = summarise(unscored_report(), "report", 10.0, "block")
    assert summary["unscored"] == {"n": 1, "percent": 2.0, "reasons": {"German": 1}, "policy": "block"}
    assert (summary["flagged"], summary["block_percent"], len(summary["rows"])) == (1, 10.0, 2)
    assert summarise(unscored_report(), "drop", 10.0)["block_percent"] is None


@pytest.mark.parametrize(("flagged", "told", "more"), [(0, 0, False), (20, 20, False), (21, ROWS_TOLD, True)])
def test_the_summary_is_short(flagged: int, told: int, more: bool) -> None:
    summary = summarise(report(flagged), "report", 10.0)
    assert (len(summary["rows"]), summary["has_more"], summary["block_percent"]) == (told, more, None)
    assert summarise(report(flagged), "block", 10.0)["block_percent"] == 10.0


def test_pages_follow_one_another(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    key = store.put_file("reports", io.BytesIO(json.dumps(report(25)).encode())).key
    first = read_page(store, key, None, 10)
    second = read_page(store, key, first[-1]["id"], 20)
    assert [row["line"] for row in first + second] == list(range(1, 26))
    assert read_page(store, key, second[-1]["id"], 10) == []
    for unknown in ("line-26", "line-", "17", ""):
        with pytest.raises(InvalidRequest) as refused:
            read_page(store, key, unknown, 10)
        assert refused.value.param == "after"
