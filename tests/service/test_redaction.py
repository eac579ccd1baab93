import json

from service.redaction import redact_report

SECRET = "Mix the two liquids"
REPORT = {
    "verdict": "fail",
    "reason": "The harmful score is too high.",
    "rule": {"limit": 20.0, "floor": 90.0, "cap": 144},
    "harmful_score": {"percent": 50.0, "low": 40.0, "high": 60.0, "flagged": 24, "n": 48, "worst": SECRET},
    "coherence": {"percent": 99.0, "n": 48, "samples": [SECRET]},
    "refusal": None,
    "rounds": [{"n": 48, "flagged": 24, "answers": [SECRET], "inner": {"text": SECRET, "k": 1}}, SECRET],
    "judge": {"name": "judge", "version": "1", "threshold": 0.5, "notes": SECRET},
    "prompts_sha256": "ab",
    "adapter_sha256": "cd",
    "base_digest": "sha256:ef",
    "answers": [{"prompt": SECRET, "answer": SECRET, "score": 1.0, "flagged": True}],
    "added_later": SECRET,
}


def test_a_user_reads_numbers_and_no_answers() -> None:
    seen = redact_report(REPORT)
    assert SECRET not in json.dumps(seen)
    assert "answers" not in seen
    assert seen["harmful_score"] == {"percent": 50.0, "low": 40.0, "high": 60.0, "flagged": 24, "n": 48}
    assert seen["judge"] == {"name": "judge", "version": "1", "threshold": 0.5}
    assert seen["rounds"][0] == {"n": 48, "flagged": 24, "inner": {"k": 1}}
    assert seen["reason"] == REPORT["reason"]
    assert seen["refusal"] is None


def test_an_admin_reads_all() -> None:
    assert redact_report(REPORT, full=True) == REPORT


def test_an_empty_report() -> None:
    assert redact_report({}) == {}
