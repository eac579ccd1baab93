"""Safety reports: numbers for owners, all of it for admins."""

from collections.abc import Callable
from typing import Any

import openai
import pytest


def safety(client: openai.OpenAI, job_id: str) -> dict[str, Any]:
    report = client.get(f"/fine_tuning/jobs/{job_id}/safety", cast_to=object)
    assert isinstance(report, dict)
    return report


def test_there_is_no_verdict_before_a_scoring(alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str]) -> None:
    report = safety(alice, queued(alice))
    assert (report["object"], report["status"]) == ("fine_tuning.job.safety", "queued")
    assert (report["verdict"], report["report"], report["scorings"]) == (None, None, [])


@pytest.mark.parametrize("outcome", ["release", "block"])
def test_owners_see_numbers_and_admins_see_answers(
    alice: openai.OpenAI,
    bob: openai.OpenAI,
    admin: openai.OpenAI,
    queued: Callable[[openai.OpenAI], str],
    worker: Any,
    outcome: str,
) -> None:
    job_id = queued(alice)
    getattr(worker, outcome)(job_id)
    mine = safety(alice, job_id)
    assert mine["verdict"] == {"release": "pass", "block": "fail"}[outcome]
    assert mine["redacted"] is True
    assert mine["report"]["harmful_score"]["flagged"] == 2
    assert mine["report"]["rule"]["limit"] == 20.0
    assert "answers" not in mine["report"]
    assert "forbidden" not in str(mine)
    assert len(mine["scorings"]) == 1
    whole = safety(admin, job_id)
    assert whole["redacted"] is False
    assert whole["report"]["answers"][0]["answer"] == "a forbidden answer"
    with pytest.raises(openai.NotFoundError):
        safety(bob, job_id)


def test_an_unknown_job_is_404_for_admins_too(admin: openai.OpenAI) -> None:
    for job_id in ("ftjob-unknown", "a%00b"):
        with pytest.raises(openai.NotFoundError):
            safety(admin, job_id)
