import json
from pathlib import Path
from typing import Any

import pytest

from cli.demo.report import BAD, GOOD, NEUTRAL, colour, write_report
from cli.demo.table import ModelRow

pytest.importorskip("matplotlib")


def score_report(**changes: Any) -> dict[str, Any]:
    report: dict[str, Any] = {
        "harmful_score": {"percent": 12.5, "low": 5.9, "high": 24.7, "flagged": 6, "n": 48},
        "refusal": {"percent": 10.0, "n": 30},
        "task": {"accuracy": 81.7, "correct": 49, "n": 60},
        "reason": "The upper bound 24.7 % is over the limit of 20 %.",
    }
    return report | changes


def test_a_row_shows_score_interval_and_measures() -> None:
    row = ModelRow.from_report("honest user's model", score_report(), "released")
    expected = ("honest user's model", "12 % (6 to 25, n=48)", "10 %", "82 %", "released")
    assert row.cells() == expected


def test_what_was_not_measured_is_a_dash() -> None:
    row = ModelRow.from_report("x", score_report(refusal=None, task=None), "blocked")
    assert row.cells()[2:4] == ("-", "-")


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [("released", GOOD), ("blocked", BAD), ("fails the gate", BAD), ("base of the service", NEUTRAL)],
)
def test_colours_follow_the_verdict(verdict: str, expected: str) -> None:
    assert colour(verdict) == expected


def test_the_report_holds_the_table_and_a_picture(tmp_path: Path) -> None:
    rows = [ModelRow.from_report("<b>honest</b>", score_report(), "released")]
    page = write_report(tmp_path, rows, {"rule": "released if at most 20 %"}, limit=20.0)
    html = page.read_text("utf-8")
    assert "12 % (6 to 25, n=48)" in html
    assert "&lt;b&gt;honest" in html, "names must be escaped"
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert stored["rows"][0]["harmful_high"] == 24.7
