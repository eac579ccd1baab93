import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service import files
from service.artefacts.store import ArtefactStore
from service.db.engine import read_transaction, transaction
from service.db.models import File
from service.db.repositories.files import FileRepository
from service.domain import job_state
from service.keys import ensure_project
from service.settings import Settings
from tvaccine_core.errors import Conflict, InvalidRequest, InvalidTrainingFile, NotFound, PayloadTooLarge

Factory = sessionmaker[Session]
ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
ROWS = (json.dumps(ROW) + "\n").encode() * 12


def upload(
    factory: Factory,
    settings: Settings,
    project_id: str,
    content: bytes = ROWS,
    purpose: str = "fine-tune",
    filename: str = "rows.jsonl",
    expires_after: float | None = None,
) -> File:
    with transaction(factory) as session:
        return files.store_upload(
            session,
            settings,
            project_id,
            filename=filename,
            purpose=purpose,
            stream=io.BytesIO(content),
            expires_after=expires_after,
        )


def kept(settings: Settings) -> list[Path]:
    return list((settings.artefacts_dir / "uploads").glob("*"))


def test_an_upload_is_kept(factory: Factory, settings: Settings, project_id: str, store: ArtefactStore) -> None:
    file = upload(factory, settings, project_id)
    assert file.id.startswith("file-")
    assert (file.bytes, file.rows, file.status, file.purpose) == (len(ROWS), 12, "processed", "fine-tune")
    assert abs(file.created_at - time.time()) < 5
    assert file.expires_at is None
    assert store.read(file.storage_key) == ROWS
    with read_transaction(factory) as session:
        assert FileRepository(session, project_id).get(file.id) is not None


def test_a_file_of_another_project_cannot_be_seen(factory: Factory, settings: Settings, project_id: str) -> None:
    file = upload(factory, settings, project_id)
    with transaction(factory) as session:
        other = FileRepository(session, ensure_project(session, "other").id)
        assert other.get(file.id) is None
        assert list(other.list()) == []
        assert not other.mark_deleted(file.id)
        with pytest.raises(NotFound):
            files.delete_file(session, ensure_project(session, "other").id, file.id)


def test_faulty_rows_are_all_named_and_nothing_is_kept(factory: Factory, settings: Settings, project_id: str) -> None:
    with pytest.raises(InvalidTrainingFile) as caught:
        upload(factory, settings, project_id, ROWS + b"no json\n" + b'{"messages": []}\n')
    assert [detail["line"] for detail in caught.value.details] == [13, 14]
    with pytest.raises(InvalidTrainingFile):
        upload(factory, settings, project_id, ROWS[: len(ROWS) // 12 * 9])
    with pytest.raises(InvalidTrainingFile):
        upload(factory, settings.model_copy(update={"max_rows": 11}), project_id, ROWS + b"\n" * 5)
    with pytest.raises(InvalidTrainingFile) as caught:
        upload(factory, settings.model_copy(update={"max_rows": 12}), project_id, b"1\n" * 1_000_000)
    assert [detail["code"] for detail in caught.value.details] == ["too_many_rows"]
    assert kept(settings) == []
    with read_transaction(factory) as session:
        assert list(FileRepository(session, project_id).list()) == []
    assert upload(factory, settings.model_copy(update={"max_rows": 12}), project_id, ROWS + b"\n").rows == 12


def test_other_purposes_are_kept_as_they_are(factory: Factory, settings: Settings, project_id: str) -> None:
    assert upload(factory, settings, project_id, b'{"prompt": "x"}', "evals").rows is None


def test_wrong_uploads_are_refused(factory: Factory, settings: Settings, project_id: str) -> None:
    with pytest.raises(InvalidRequest):
        upload(factory, settings, project_id, purpose="anything")
    with pytest.raises(InvalidRequest):
        upload(factory, settings, project_id, b"", "user_data")
    for name in ("", "/", "a\x00b", "a\nb", "\ud800", "x" * 256):
        with pytest.raises(InvalidRequest):
            upload(factory, settings, project_id, filename=name)
    with pytest.raises(PayloadTooLarge):
        upload(factory, settings.model_copy(update={"max_upload_bytes": len(ROWS) - 1}), project_id)
    assert kept(settings) == []


def test_only_the_last_part_of_a_name_is_kept(factory: Factory, settings: Settings, project_id: str) -> None:
    assert upload(factory, settings, project_id, filename="C:\\data\\../rows ü.jsonl").filename == "rows ü.jsonl"


def test_files_are_listed_by_age_in_pages(factory: Factory, settings: Settings, project_id: str) -> None:
    made = [upload(factory, settings, project_id) for _ in range(5)]
    made.append(upload(factory, settings, project_id, purpose="user_data"))
    oldest_first = [f.id for f in sorted(made, key=lambda f: (f.created_at, f.id))]
    with read_transaction(factory) as session:
        repository = FileRepository(session, project_id)
        assert [f.id for f in repository.list(order="asc")] == oldest_first
        assert [f.id for f in repository.list()] == oldest_first[::-1]
        first = [f.id for f in repository.list(limit=2)]
        assert first + [f.id for f in repository.list(after=first[-1])] == oldest_first[::-1]
        assert [f.id for f in repository.list("user_data")] == [made[-1].id]
        for cursor in ("file-none", "\x00"):
            with pytest.raises(InvalidRequest):
                repository.list(after=cursor)


def test_a_file_that_a_job_needs_is_not_deleted(
    factory: Factory, settings: Settings, project_id: str, queue_job: Callable[..., str], store: ArtefactStore
) -> None:
    file = upload(factory, settings, project_id)
    job_id = queue_job(validation_file=file.id)
    with pytest.raises(Conflict, match=job_id), transaction(factory) as session:
        files.delete_file(session, project_id, file.id)
    with transaction(factory) as session:
        job_state.request_cancel(session, job_id)
        files.delete_file(session, project_id, file.id)
    with transaction(factory) as session, pytest.raises(NotFound):
        files.delete_file(session, project_id, file.id)
    assert store.exists(file.storage_key)
    assert files.purge(factory, settings) == 1
    assert not store.exists(file.storage_key)
    assert files.purge(factory, settings) == 0


def test_an_expired_file_is_gone_but_its_bytes_outlive_the_job(
    factory: Factory, settings: Settings, project_id: str, queue_job: Callable[..., str], store: ArtefactStore
) -> None:
    later = upload(factory, settings, project_id, expires_after=3600)
    assert later.expires_at == pytest.approx(later.created_at + 3600, abs=1)
    file = upload(factory, settings, project_id, expires_after=-1)
    job_id = queue_job(training_file=file.id)
    with read_transaction(factory) as session:
        assert FileRepository(session, project_id).get(file.id) is None
    assert files.purge(factory, settings) == 0
    with transaction(factory) as session:
        job_state.request_cancel(session, job_id)
    assert files.purge(factory, settings) == 1
    assert store.exists(later.storage_key)
