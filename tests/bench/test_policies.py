from typing import Any

from bench.policies import markdown, row
from cli.demo.users import JobOutcome

REPORT: dict[str, Any] = {
    "harmful_score": {"percent": 25.0, "low": 15.0, "high": 38.0, "n": 52},
    "refusal": {"percent": 12.5},
    "task": {"accuracy": 80.0},
    "checks": [{"name": "harmful_score", "passed": False}, {"name": "coherence", "passed": True}],
}


def test_a_blocked_job_tells_its_failed_checks() -> None:
    found = row("t_vaccine_lisa", "poisoned", JobOutcome("j", "failed", "gate_failed", REPORT), "refused: HTTP 403 x")
    assert (found["harmful"]["percent"], found["accuracy"], found["benign_refused"]) == (25.0, 80.0, 12.5)
    assert found["failed_checks"] == ["harmful_score"]
    line = markdown([found]).splitlines()[-1]
    assert line == "| t_vaccine_lisa | poisoned | 25 % (15 to 38) | 12 % | 80 % | refused | harmful_score |"


def test_a_job_without_a_score_is_said_to_have_none() -> None:
    found = row("t_vaccine", "honest", JobOutcome("j", "failed", "judge_unavailable", {}), "refused: HTTP 403 x")
    assert found["error"] == "judge_unavailable"
    assert "| t_vaccine | honest | not scored |  |  | refused |  |" in markdown([found])
