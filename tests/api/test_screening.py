"""Flagged rows as their owner gets them: in the job, in pages, and with the error that blocked the job."""

import io
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from api.context import Context
from service.db.repositories.screenings import ScreeningRepository
from service.domain import job_state
from service.screenings import summarise

FLAGGED = 25


def report() -> dict[str, Any]:
    found = {"flagged": True, "reason": "harmful_part", "reasons": ["harmful_part"], "category": "violence", "turn": 1}
    rows: list[dict[str, Any]] = [{"line": line, "score": 0.75, **found} for line in range(1, FLAGGED + 1)]
    rows[1] |= {"score": None, "flagged": False, "reason": "unscored", "reasons": ["unscored"], "unread": "German"}
    figures: dict[str, Any] = {"n": 100, "flagged": FLAGGED, "percent": 25.0, "pairs": 140}
    figures["reasons"] = {"harmful_part": FLAGGED}
    figures["unscored"] = {"n": 1, "percent": 1.0, "reasons": {"German": 1}}
    return {"rows": rows, **figures, "judge": {"name": "judge", "version": "1", "threshold": 0.5}}


@pytest.fixture
def screened(context: Context, worker: Any) -> Callable[..., None]:
    """Does to a job what a worker's screening does; blocks it, if asked to."""

    def act(job_id: str, *, block: bool = False) -> None:
        claim = worker.claim(job_id)
        stored = context.store.put_file("reports", io.BytesIO(json.dumps(report()).encode()))
        summary = summarise(report(), "block", 10.0)
        details = [{"line": 1, "path": "", "code": "row_flagged", "message": "Take it out.", "score": 0.75}]
        with context.write() as session:
            ScreeningRepository(session).put(job_id, attempt=1, report_key=stored.key, summary=summary)
            if block:
                job_state.fail(session, claim, "unsafe_training_file", "Too many.", "training_file", details)

    return act


def listing(client: openai.OpenAI, job_id: str, **query: Any) -> dict[str, Any]:
    page = client.get(f"/fine_tuning/jobs/{job_id}/screening", cast_to=object, options={"params": query})
    assert isinstance(page, dict)
    return page


def test_the_job_tells_the_figures_and_the_first_rows(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], screened: Callable[..., None]
) -> None:
    job_id = queued(alice)
    assert alice.fine_tuning.jobs.retrieve(job_id).to_dict()["screening"] is None
    screened(job_id)
    job: dict[str, Any] = alice.fine_tuning.jobs.retrieve(job_id).to_dict()
    screening = job["screening"]
    assert (screening["n"], screening["flagged"], screening["policy"]) == (100, FLAGGED, "block")
    assert (screening["block_percent"], screening["pairs"], screening["has_more"]) == (10.0, 140, True)
    assert screening["reasons"] == {"harmful_part": FLAGGED}
    assert screening["unscored"] == {"policy": "report", "n": 1, "percent": 1.0, "reasons": {"German": 1}}
    assert len(screening["rows"]) == 20
    assert (screening["rows"][1]["score"], screening["rows"][1]["unread"]) == (None, "German")
    assert screening["rows"][0] == {
        "line": 1,
        "score": 0.75,
        "reason": "harmful_part",
        "reasons": ["harmful_part"],
        "category": "violence",
        "turn": 1,
        "unread": None,
    }
    listed = next(iter(alice.fine_tuning.jobs.list())).to_dict()
    assert listed["screening"] == screening


def test_all_rows_come_in_pages(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], screened: Callable[..., None]
) -> None:
    job_id = queued(alice)
    screened(job_id)
    first = listing(alice, job_id, limit=10)
    assert (first["object"], len(first["data"]), first["has_more"]) == ("list", 10, True)
    second = listing(alice, job_id, limit=20, after=first["data"][-1]["id"])
    assert second["has_more"] is False
    assert [row["line"] for row in first["data"] + second["data"]] == list(range(1, FLAGGED + 1))
    with pytest.raises(openai.BadRequestError) as refused:
        listing(alice, job_id, after="line-1000")
    assert refused.value.param == "after"


def test_before_the_screening_and_for_others_there_is_none(
    alice: openai.OpenAI, bob: openai.OpenAI, queued: Callable[[openai.OpenAI], str], screened: Callable[..., None]
) -> None:
    job_id = queued(alice)
    with pytest.raises(openai.NotFoundError, match="not been screened"):
        listing(alice, job_id)
    screened(job_id)
    with pytest.raises(openai.NotFoundError):
        listing(bob, job_id)


def test_a_blocked_jobs_error_names_the_rows(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], screened: Callable[..., None]
) -> None:
    job_id = queued(alice)
    screened(job_id, block=True)
    job: dict[str, Any] = alice.fine_tuning.jobs.retrieve(job_id).to_dict()
    assert job["error"]["code"] == "unsafe_training_file"
    assert job["error"]["details"][0]["line"] == 1
