"""Uploaded files: judged before they are kept, kept as long as an unfinished job needs them."""

import unicodedata
from itertools import islice
from pathlib import PurePosixPath
from typing import BinaryIO

from sqlalchemy.orm import Session, sessionmaker

from service.artefacts.store import ArtefactStore
from service.db.engine import read_transaction, transaction
from service.db.models import File
from service.db.repositories.files import AdminFileRepository, FileRepository
from service.ids import storable
from service.settings import Settings
from tvaccine_core.data.rows import RowFault, raise_faults, read_rows_file, require_valid
from tvaccine_core.errors import Conflict, InvalidRequest, NotFound

FINE_TUNE = "fine-tune"
PURPOSES = ("assistants", "batch", "evals", FINE_TUNE, "user_data", "vision")
_MAX_NAME = 255


def store_upload(
    session: Session,
    settings: Settings,
    project_id: str,
    *,
    filename: str,
    purpose: str,
    stream: BinaryIO,
    expires_after: float | None = None,
) -> File:
    """Keep an upload; `expires_after` in seconds.

    The stream is read to its end before the database is touched, so that a slow upload holds no lock.
    Raises InvalidRequest, PayloadTooLarge, and InvalidTrainingFile with every fault of every row when the
    purpose is ``fine-tune``; nothing is kept then.
    """
    if purpose not in PURPOSES:
        raise InvalidRequest(f"purpose is one of: {', '.join(PURPOSES)}.", param="purpose")
    name = _plain_name(filename)
    store = ArtefactStore(settings.artefacts_dir)
    stored = store.put_file("uploads", stream, max_bytes=settings.max_upload_bytes)
    try:
        if stored.size == 0:
            raise InvalidRequest("The file is empty. Send one with content.", param="file")
        rows = _count_rows(store, stored.key, settings) if purpose == FINE_TUNE else None
        return FileRepository(session, project_id).add(
            filename=name,
            purpose=purpose,
            size=stored.size,
            sha256=stored.sha256,
            storage_key=stored.key,
            rows=rows,
            expires_after=expires_after,
        )
    except BaseException:
        store.delete(stored.key)
        raise


def delete_file(session: Session, project_id: str, file_id: str) -> File:
    """Hide a file from now on; `purge` removes its bytes once the transaction is committed.

    Raises NotFound, and Conflict while an unfinished job needs it.
    """
    files = FileRepository(session, project_id)
    file = files.get(file_id, lock=True)
    if file is None:
        raise NotFound(f"No file {file_id!r} in this project.")
    users = files.used_by(file_id)
    if users:
        raise Conflict(f"File {file_id} is needed by job {users[0]}. Cancel the job or wait for its end.")
    files.mark_deleted(file_id)
    return file


def purge(factory: sessionmaker[Session], settings: Settings, limit: int = 100) -> int:
    """Remove the bytes of deleted and expired files that no unfinished job needs; how many files that was."""
    store = ArtefactStore(settings.artefacts_dir)
    with read_transaction(factory) as session:
        gone = AdminFileRepository(session).purgeable(limit)
    for file in gone:
        store.delete(file.storage_key)
        with transaction(factory) as session:
            AdminFileRepository(session).mark_purged(file.id)
    return len(gone)


def _plain_name(filename: str) -> str:
    """The last part of the name that the client sent."""
    name = PurePosixPath(filename.replace("\\", "/")).name
    printable = storable(name) and not any(unicodedata.category(character) == "Cc" for character in name)
    if not name or len(name) > _MAX_NAME or not printable:
        message = f"The file needs a name of 1 to {_MAX_NAME} printable characters."
        raise InvalidRequest(message, param="file")
    return name


def _count_rows(store: ArtefactStore, key: str, settings: Settings) -> int:
    # Counted first: judging millions of short lines would fill the memory with faults.
    with store.open(key) as lines:
        over = islice((line for line in lines if line.strip()), settings.max_rows, None)
        too_many = next(over, None) is not None
    if too_many:
        message = f"The file has more than {settings.max_rows} rows, which is the limit; shorten it."
        raise_faults([RowFault(0, "", "too_many_rows", message)])
    return len(require_valid(read_rows_file(store.path(key))))
