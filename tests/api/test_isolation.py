"""What belongs to one project does not exist for another, on any route."""

from collections.abc import Callable
from typing import Any

import openai
import pytest


def test_listings_show_only_the_own_project(
    alice: openai.OpenAI, bob: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any
) -> None:
    mine, theirs = queued(alice), queued(bob)
    models = {mine: worker.release(mine), theirs: worker.release(theirs)}
    for client, own, foreign in ((alice, mine, theirs), (bob, theirs, mine)):
        assert [job.id for job in client.fine_tuning.jobs.list()] == [own]
        assert [job.id for job in client.fine_tuning.jobs.list(metadata={})] == [own]
        assert len(client.files.list().data) == 1
        names = [model.id for model in client.models.list()]
        assert models[own] in names
        assert models[foreign] not in names


def test_ids_of_another_project_are_404_on_every_route(
    alice: openai.OpenAI, bob: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any
) -> None:
    job_id = queued(alice)
    model = worker.release(job_id)
    job = alice.fine_tuning.jobs.retrieve(job_id)
    jobs, file = bob.fine_tuning.jobs, job.training_file
    calls: list[Callable[[], object]] = [
        lambda: bob.files.retrieve(file),
        lambda: bob.files.content(file),
        lambda: bob.files.delete(file),
        lambda: jobs.retrieve(job_id),
        lambda: jobs.cancel(job_id),
        lambda: jobs.pause(job_id),
        lambda: jobs.resume(job_id),
        lambda: jobs.list_events(job_id),
        lambda: jobs.checkpoints.list(job_id),
        lambda: bob.get(f"/fine_tuning/jobs/{job_id}/safety", cast_to=object),
        lambda: bob.get(f"/fine_tuning/jobs/{job_id}/adapter", cast_to=object),
        lambda: bob.models.retrieve(model),
        lambda: bob.models.delete(model),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError):
            call()
    # Nothing of all this changed anything.
    assert alice.fine_tuning.jobs.retrieve(job_id) == job
    assert alice.files.retrieve(file).id == file
    assert alice.models.retrieve(model).id == model


def test_cursors_of_another_project_are_unknown(
    alice: openai.OpenAI, bob: openai.OpenAI, queued: Callable[[openai.OpenAI], str]
) -> None:
    mine, theirs = queued(alice), queued(bob)
    file = alice.fine_tuning.jobs.retrieve(mine).training_file
    event = alice.fine_tuning.jobs.list_events(mine).data[0].id
    calls: list[Callable[[], object]] = [
        lambda: bob.files.list(after=file),
        lambda: bob.fine_tuning.jobs.list(after=mine),
        lambda: bob.fine_tuning.jobs.list_events(theirs, after=event),
    ]
    for call in calls:
        with pytest.raises(openai.BadRequestError):
            call()


def test_an_idempotency_key_counts_within_its_project(
    alice: openai.OpenAI, bob: openai.OpenAI, upload: Callable[[openai.OpenAI], str]
) -> None:
    made = {
        client.fine_tuning.jobs.create(
            model="smollm2-135m-instruct",
            training_file=upload(client),
            extra_headers={"Idempotency-Key": "shared"},
        ).id
        for client in (alice, bob)
    }
    assert len(made) == 2


def test_an_admins_key_opens_no_other_projects_data(
    alice: openai.OpenAI, admin: openai.OpenAI, queued: Callable[[openai.OpenAI], str]
) -> None:
    job_id = queued(alice)
    file = alice.fine_tuning.jobs.retrieve(job_id).training_file
    calls: list[Callable[[], object]] = [
        lambda: admin.files.content(file),
        lambda: admin.fine_tuning.jobs.retrieve(job_id),
        lambda: admin.fine_tuning.jobs.cancel(job_id),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError):
            call()
