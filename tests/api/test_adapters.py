"""Downloading the released adapter, and nothing else."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient


def adapter_bytes(client: openai.OpenAI, job_id: str) -> bytes:
    answer = client.get(f"/fine_tuning/jobs/{job_id}/adapter", cast_to=openai.HttpxBinaryResponseContent)
    return answer.read()


def test_an_adapter_is_a_zip_once_released_and_403_before(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any
) -> None:
    job_id = queued(alice)

    def refused() -> openai.PermissionDeniedError:
        with pytest.raises(openai.PermissionDeniedError) as error:
            adapter_bytes(alice, job_id)
        return error.value

    assert refused().code == "model_not_released"
    name = worker.release(job_id)
    data = adapter_bytes(alice, job_id)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["adapter_config.json", "adapter_model.safetensors"]
        assert archive.read("adapter_model.safetensors") == job_id.encode() * 1000
    assert adapter_bytes(alice, job_id) == data
    assert name.startswith("ft:")


def test_an_adapter_in_quarantine_is_not_given_out(
    alice: openai.OpenAI, admin: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any
) -> None:
    job_id = queued(alice)
    worker.quarantine(worker.claim(job_id))
    with pytest.raises(openai.PermissionDeniedError):
        adapter_bytes(alice, job_id)
    with pytest.raises(openai.NotFoundError):
        adapter_bytes(admin, job_id)


def test_a_blocked_jobs_answer_says_why(
    alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str], worker: Any
) -> None:
    job_id = queued(alice)
    worker.block(job_id)
    with pytest.raises(openai.PermissionDeniedError) as error:
        adapter_bytes(alice, job_id)
    assert error.value.code == "model_not_released"
    assert "harmful score is too high" in error.value.message


def test_the_download_has_a_name_and_a_digest(
    http: TestClient,
    new_key: Callable[..., str],
    client_of: Callable[[str], openai.OpenAI],
    queued: Callable[[openai.OpenAI], str],
    worker: Any,
) -> None:
    key = new_key("alpha")
    job_id = queued(client_of(key))
    worker.release(job_id)
    answer = http.get(f"/v1/fine_tuning/jobs/{job_id}/adapter", headers={"authorization": f"Bearer {key}"})
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{job_id}.zip"'
    assert len(answer.headers["x-adapter-sha256"]) == 64
    assert answer.headers["x-request-id"]
