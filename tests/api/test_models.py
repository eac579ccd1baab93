"""Models through the official client."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from api.context import Context

BASE, OTHER = "smollm2-135m-instruct", "org/other-base"


def test_bases_are_listed_and_found_by_names_with_slashes(alice: openai.OpenAI) -> None:
    assert [model.id for model in alice.models.list()] == [BASE, OTHER]
    for name in (BASE, OTHER):
        model = alice.models.retrieve(name)
        assert (model.id, model.object) == (name, "model")


def test_a_released_model_is_listed_and_can_be_deleted(
    alice: openai.OpenAI,
    bob: openai.OpenAI,
    queued: Callable[[openai.OpenAI], str],
    worker: Any,
    context: Context,
) -> None:
    job_id = queued(alice)
    assert [model.id for model in alice.models.list()] == [BASE, OTHER]
    name = worker.release(job_id)
    assert [model.id for model in alice.models.list()] == [BASE, OTHER, name]
    assert alice.models.retrieve(name).owned_by.startswith("proj_")
    assert [model.id for model in bob.models.list()] == [BASE, OTHER]
    for act in (bob.models.retrieve, bob.models.delete):
        with pytest.raises(openai.NotFoundError) as refused:
            act(name)
        assert refused.value.code == "model_not_found"
    assert alice.models.delete(name).deleted is True
    with pytest.raises(openai.NotFoundError):
        alice.models.retrieve(name)
    assert [model.id for model in alice.models.list()] == [BASE, OTHER]
    assert list((context.settings.artefacts_dir / "released").iterdir()) == []
    with pytest.raises(openai.NotFoundError):
        alice.get(f"/fine_tuning/jobs/{job_id}/adapter", cast_to=object)
    assert alice.fine_tuning.jobs.retrieve(job_id).status == "succeeded"


def test_a_base_cannot_be_deleted(alice: openai.OpenAI, admin: openai.OpenAI) -> None:
    for client in (alice, admin):
        with pytest.raises(openai.PermissionDeniedError):
            client.models.delete(OTHER)


def test_an_unknown_model_is_404(alice: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        alice.models.retrieve("ft:no/such:model")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
