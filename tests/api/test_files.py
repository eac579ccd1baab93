"""Files through the official client."""

from collections.abc import Callable
from io import BytesIO

import openai
import pytest
from starlette.testclient import TestClient

from api.context import Context


def test_an_uploaded_file_can_be_seen_read_and_deleted(alice: openai.OpenAI, training_file: BytesIO) -> None:
    data = training_file.getvalue()
    file = alice.files.create(file=training_file, purpose="fine-tune")
    assert (file.object, file.bytes, file.filename) == ("file", len(data), "train.jsonl")
    assert (file.purpose, file.status, file.expires_at) == ("fine-tune", "processed", None)
    assert file.model_extra is not None
    assert file.model_extra["rows"] == 12
    assert alice.files.retrieve(file.id) == file
    assert alice.files.wait_for_processing(file.id) == file
    assert alice.files.content(file.id).read() == data
    assert alice.files.delete(file.id).deleted is True
    for gone in (alice.files.retrieve, alice.files.content, alice.files.delete):
        with pytest.raises(openai.NotFoundError):
            gone(file.id)
    assert alice.files.list().data == []


def test_a_deleted_files_bytes_are_removed(alice: openai.OpenAI, training_file: BytesIO, context: Context) -> None:
    file = alice.files.create(file=training_file, purpose="fine-tune")
    uploads = context.settings.artefacts_dir / "uploads"
    assert len(list(uploads.iterdir())) == 1
    alice.files.delete(file.id)
    assert list(uploads.iterdir()) == []


def test_a_file_that_a_job_needs_is_not_deleted(alice: openai.OpenAI, queued: Callable[[openai.OpenAI], str]) -> None:
    job = alice.fine_tuning.jobs.retrieve(queued(alice))
    with pytest.raises(openai.ConflictError) as refused:
        alice.files.delete(job.training_file)
    assert job.id in refused.value.message
    alice.fine_tuning.jobs.cancel(job.id)
    assert alice.files.delete(job.training_file).deleted


def test_an_expiry_is_kept_and_checked(alice: openai.OpenAI, training_file: BytesIO) -> None:
    expiry = {"anchor": "created_at", "seconds": 3600}
    file = alice.files.create(file=training_file, purpose="fine-tune", expires_after=expiry)  # type: ignore[arg-type]
    assert file.expires_at is not None
    assert abs(file.expires_at - file.created_at - 3600) <= 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "cooking"}, "purpose"),
        ({"purpose": "fine-tune", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"purpose": "fine-tune", "expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        (
            {"purpose": "fine-tune", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"},
            "expires_after[seconds]",
        ),
        (
            {
                "purpose": "fine-tune",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "9" * 5000,
            },
            "expires_after[seconds]",
        ),
        (
            {"purpose": "fine-tune", "expires_after[anchor]": "now", "expires_after[seconds]": "3600"},
            "expires_after[anchor]",
        ),
    ],
)
def test_a_wrong_form_field_is_named(
    http: TestClient, new_key: Callable[..., str], fields: dict[str, str], param: str
) -> None:
    key = new_key("alpha")
    answer = http.post(
        "/v1/files",
        data=fields,
        files={"file": ("a.jsonl", b"{}")},
        headers={"authorization": f"Bearer {key}"},
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error",
        "invalid_request",
        param,
    )
    assert param in error["message"]


def test_a_form_without_a_file_is_refused(http: TestClient, new_key: Callable[..., str]) -> None:
    headers = {"authorization": f"Bearer {new_key('alpha')}"}
    bodies: list[dict[str, object]] = [
        {"data": {"purpose": "fine-tune", "file": "the text of a file"}},
        {"data": {"purpose": "fine-tune"}, "files": {"file": ("", b"{}")}},
        {"json": {"purpose": "fine-tune"}},
        {"content": b"no multipart", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=x"}},
    ]
    for body in bodies:
        more = body.pop("headers", {})
        answer = http.post("/v1/files", headers={**headers, **more}, **body)  # type: ignore[arg-type, dict-item]
        assert answer.status_code == 400, body
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_other_purposes_are_kept_as_they_are(alice: openai.OpenAI) -> None:
    file = alice.files.create(file=("notes.txt", b"not rows"), purpose="user_data")
    assert alice.files.content(file.id).text == "not rows"
    assert [f.id for f in alice.files.list(purpose="user_data")] == [file.id]
    assert alice.files.list(purpose="fine-tune").data == []


def test_a_path_in_the_file_name_is_cut_off(alice: openai.OpenAI, training_file: BytesIO) -> None:
    file = alice.files.create(file=("../../etc/pass'wd \u00fc.jsonl", training_file), purpose="fine-tune")
    assert file.filename == "pass'wd \u00fc.jsonl"


def test_an_empty_file_is_refused(alice: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        alice.files.create(file=("empty.jsonl", b""), purpose="fine-tune")
    assert refused.value.param == "file"
