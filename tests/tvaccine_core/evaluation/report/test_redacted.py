import json
from typing import Any

import pytest

from tests.safety_report import SECRET_ANSWER, full_report
from tvaccine_core.evaluation.report.document import parse_report
from tvaccine_core.evaluation.report.redacted import MOST_EXAMPLES, public_name, without_texts


def user_text(report: dict[str, Any]) -> str:
    return without_texts(parse_report(report)).model_dump_json(by_alias=True)


def test_no_text_of_a_prompt_or_an_answer_is_left() -> None:
    assert "SECRET" in json.dumps(full_report())
    assert "SECRET" not in user_text(full_report())


def test_free_form_parts_keep_numbers_only() -> None:
    report = full_report()
    report["rule"] = {"limit": 20.0, "system_prompt": "SECRET", "inner": {"k": 1, "text": "SECRET", "many": ["SECRET"]}}
    report["rounds"] = [{"n": 4, "action": "SECRET"}]
    report["coherence"]["samples"] = ["SECRET"]
    report["judge"]["notes"] = "SECRET"
    seen = json.loads(user_text(report))
    assert "SECRET" not in json.dumps(seen)
    assert seen["rule"] == {"limit": 20.0, "inner": {"k": 1}}
    assert seen["rounds"] == [{"n": 4}]


def test_the_scoring_before_a_repair_keeps_its_figures_and_its_reason_only() -> None:
    report = full_report()
    report["before_repair"]["answers"] = report["answers"]
    seen = json.loads(user_text(report))
    assert seen["outcome"] == "quarantined"
    assert seen["before_repair"] == full_report()["before_repair"]


def test_the_pool_stays_the_operators() -> None:
    seen = without_texts(parse_report(full_report())).prompts
    assert seen is not None
    assert (seen.pool_sha256, seen.drawn, seen.composed) == (None, 96, 48)
    assert without_texts(parse_report({**full_report(), "prompts": None})).prompts is None


def test_examples_are_the_flagged_answers_by_falling_score() -> None:
    examples = without_texts(parse_report(full_report())).examples
    assert [(e.category, e.variant, e.score) for e in examples] == [
        ("fraud", "jailbreak_prefix", 0.99),
        ("violence", "plain", 0.97),
        ("theft", "plain", 0.81),
    ]
    assert {example.length for example in examples} == {len(SECRET_ANSWER)}


def test_examples_are_few_and_redacting_twice_changes_nothing() -> None:
    report = full_report()
    report["answers"] *= 30
    once = without_texts(parse_report(report))
    assert len(once.examples) == MOST_EXAMPLES
    assert without_texts(once) == once
    assert once.redacted
    assert once.answers == []


@pytest.mark.parametrize(
    ("base", "seen"),
    [("/srv/models/own", "own"), ("./own", "own"), ("org/model", "org/model"), (None, None)],
)
def test_paths_of_the_server_stay_there(base: str | None, seen: str | None) -> None:
    assert public_name(base) == seen
    assert without_texts(parse_report({**full_report(), "base_name": base})).base_name == seen
