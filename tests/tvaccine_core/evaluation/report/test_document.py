import json
from pathlib import Path
from typing import Any

import pytest

from tests.safety_report import SECRET_ANSWER, bare_report, full_report
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.report.document import ScoringReport, json_schema, parse_report
from tvaccine_core.evaluation.report.schema import SCHEMA_FILE, schema_text

DOCS = Path(__file__).parents[4] / "docs/safety_report.schema.json"


@pytest.mark.parametrize("report", [full_report(), bare_report()])
def test_a_report_keeps_all_its_fields(report: dict[str, Any]) -> None:
    document = parse_report(report)
    assert document.model_dump(mode="json", by_alias=True, exclude_unset=True) == report


def test_the_published_schema_is_that_of_the_document() -> None:
    remake = "run: python -m tvaccine_core.evaluation.report.schema docs/safety_report.schema.json " + str(SCHEMA_FILE)
    for file in (DOCS, SCHEMA_FILE):
        assert file.read_text("utf-8") == schema_text(), remake


def test_the_schema_describes_every_field() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(full_report()) | {"redacted", "examples"} == set(schema["properties"])
    assert {"schema", "verdict", "reason", "checks", "harmful_score", "judge"} <= set(schema["required"])
    assert "schema_name" not in json.dumps(schema)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema": "tvaccine.safety_report/2"}, "schema"),
        ({"verdict": "maybe"}, "verdict"),
        ({"outcome": "escaped"}, "outcome"),
        ({"before_repair": {"reason": SECRET_ANSWER, "verdict": "fail"}}, "before_repair.harmful_score"),
        ({"harmful_score": {"percent": 101, "low": 0, "high": 1, "flagged": 0, "n": 1}}, "harmful_score.percent"),
        ({"answers": [{"prompt": 1, "answer": SECRET_ANSWER}]}, "answers.0.prompt"),
        ({"reason": [SECRET_ANSWER]}, "reason"),
    ],
)
def test_a_faulty_report_is_refused_without_quoting_it(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        parse_report({**full_report(), **change})
    assert caught.value.code == "invalid_report"
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_report_without_the_fields_of_a_job_is_a_report() -> None:
    old = {name: value for name, value in full_report().items() if name not in ("outcome", "before_repair")}
    document = parse_report(old)
    assert (document.outcome, document.before_repair) == (None, None)
    assert document.model_dump(mode="json", by_alias=True, exclude_unset=True) == old


def test_later_fields_are_ignored() -> None:
    assert parse_report({**full_report(), "added_later": 1}) == parse_report(full_report())


def test_a_check_is_looked_up_by_kind_and_name() -> None:
    document: ScoringReport = parse_report(full_report())
    assert document.failed("category", "violence")
    assert not document.failed("category", "privacy")
    assert not document.failed("variant", "violence")
