"""Events and checkpoints through the official client."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from api.context import Context
from service.db.repositories.checkpoints import CheckpointRepository
from service.db.repositories.events import EventRepository


def test_events_come_newest_first_over_all_pages(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], context: Context
) -> None:
    job_id = queued(alice)
    with context.write() as session:
        for number in range(25):
            EventRepository(session).append(job_id, "info", f"event {number}", data={"number": number})
    first = alice.fine_tuning.jobs.list_events(job_id)
    assert len(first.data) == 20
    assert first.has_more is True
    everything = list(alice.fine_tuning.jobs.list_events(job_id, limit=7))
    assert [event.message for event in everything] == [
        *(f"event {number}" for number in reversed(range(25))),
        "Created fine-tuning job",
    ]
    newest = everything[0]
    assert (newest.object, newest.level, newest.type) == ("fine_tuning.job.event", "info", "message")
    assert newest.data == {"number": 24}
    assert newest.id.startswith("ftevent-")


def test_the_gates_event_type_is_shown(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], context: Context
) -> None:
    job_id = queued(alice)
    with context.write() as session:
        EventRepository(session).append(job_id, "warn", "Blocked.", "moderation_checks", {"verdict": "fail"})
    newest = alice.fine_tuning.jobs.list_events(job_id, limit=1).data[0]
    assert str(newest.type) == "moderation_checks"
    assert newest.level == "warn"


def test_checkpoints_come_newest_first_with_their_bounds(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], context: Context
) -> None:
    job_id = queued(alice)
    assert alice.fine_tuning.jobs.checkpoints.list(job_id).data == []
    with context.write() as session:
        for step in range(20, 260, 20):
            metrics: dict[str, Any] = {"train_loss": 1.0 / step, "note": "not a number"}
            CheckpointRepository(session).add(job_id, step, metrics)
    page = alice.fine_tuning.jobs.checkpoints.with_raw_response.list(job_id).http_response.json()
    assert len(page["data"]) == 10
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
    steps = [checkpoint.step_number for checkpoint in alice.fine_tuning.jobs.checkpoints.list(job_id, limit=5)]
    assert steps == list(reversed(range(20, 260, 20)))
    newest = alice.fine_tuning.jobs.checkpoints.list(job_id).data[0]
    assert (newest.object, newest.fine_tuning_job_id) == ("fine_tuning.job.checkpoint", job_id)
    assert newest.fine_tuned_model_checkpoint.endswith(":ckpt-step-240")
    assert newest.metrics.train_loss == pytest.approx(1 / 240)
    assert newest.metrics.step == 240


def test_an_unknown_cursor_is_named(alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str]) -> None:
    job_id = queued(alice)
    listings: list[Callable[[], object]] = [
        lambda: alice.fine_tuning.jobs.list_events(job_id, after="ftevent-unknown"),
        lambda: alice.fine_tuning.jobs.checkpoints.list(job_id, after="ftckpt_unknown"),
        lambda: alice.fine_tuning.jobs.list(after="ftjob-unknown"),
        lambda: alice.files.list(after="file-unknown"),
    ]
    for listing in listings:
        with pytest.raises(openai.BadRequestError) as refused:
            listing()
        assert refused.value.param == "after"
