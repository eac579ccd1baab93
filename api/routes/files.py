"""Files: upload, list, retrieve, download, delete."""

from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from api.auth import CallerDep
from api.context import ContextDep
from api.openapi import binary, errors
from api.pagination import After, FileLimit, bounded_page
from api.schemas.files import FileDeleted, FileObject, Order
from api.schemas.lists import BoundedPage
from api.uploads import FORM_SCHEMA, UploadDep
from service.db.models import File
from service.db.repositories.files import FileRepository
from service.files import delete_file, purge, store_upload
from tvaccine_core.errors import NotFound

router = APIRouter(prefix="/v1/files", tags=["files"])

CHUNK = 1024 * 1024


@router.post("", summary="Upload a file", openapi_extra=FORM_SCHEMA, responses=errors(400, 401, 413, 503))
def upload(context: ContextDep, caller: CallerDep, form: UploadDep) -> FileObject:
    """Keep a file. With the purpose `fine-tune` every row is judged first; one faulty row refuses all."""
    with context.write() as session:
        file = store_upload(
            session,
            context.settings,
            caller.project_id,
            filename=form.filename,
            purpose=form.purpose,
            stream=form.content,
            expires_after=form.expires_after,
        )
        return FileObject.of(file)


@router.get("", summary="List files", responses=errors(400, 401, 503))
def list_files(
    context: ContextDep,
    caller: CallerDep,
    purpose: Annotated[str | None, Query(max_length=64)] = None,
    after: After = None,
    order: Order = "desc",
    limit: FileLimit = 10_000,
) -> BoundedPage[FileObject]:
    """The project's files by age."""
    with context.read() as session:
        files = FileRepository(session, caller.project_id)
        rows = files.list(purpose=purpose, after=after, order=order, limit=limit + 1)
        return bounded_page(rows, limit, FileObject.of, lambda file: file.id)


@router.get("/{file_id}", summary="Retrieve a file", responses=errors(401, 404, 503))
def retrieve(context: ContextDep, caller: CallerDep, file_id: str) -> FileObject:
    """What is known of one file."""
    with context.read() as session:
        return FileObject.of(require_file(FileRepository(session, caller.project_id), file_id))


@router.delete("/{file_id}", summary="Delete a file", responses=errors(401, 404, 409, 503))
def delete(context: ContextDep, caller: CallerDep, file_id: str) -> FileDeleted:
    """Remove a file that no unfinished job needs."""
    with context.write() as session:
        delete_file(session, caller.project_id, file_id)
    purge(context.factory, context.settings)
    return FileDeleted(id=file_id)


@router.get(
    "/{file_id}/content",
    summary="Download a file",
    response_class=StreamingResponse,
    responses={**errors(401, 404, 503), 200: binary("application/octet-stream", "The bytes of the file.")},
)
def content(context: ContextDep, caller: CallerDep, file_id: str) -> StreamingResponse:
    """The bytes that were uploaded."""
    with context.read() as session:
        file = require_file(FileRepository(session, caller.project_id), file_id)
    headers: dict[str, Any] = {"content-length": str(file.bytes), "x-content-type-options": "nosniff"}
    stream = context.store.open(file.storage_key)
    return StreamingResponse(pieces(stream), media_type="application/octet-stream", headers=headers)


def require_file(files: FileRepository, file_id: str) -> File:
    """The file. Raises NotFound, for a file of another project too."""
    file = files.get(file_id)
    if file is None:
        raise NotFound(f"No file {file_id[:100]!r} in this project.")
    return file


def pieces(stream: BinaryIO) -> Iterator[bytes]:
    """The bytes of an open file, which is closed at the end."""
    with stream:
        while piece := stream.read(CHUNK):
            yield piece
