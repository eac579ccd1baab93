"""Files on the wire."""

from typing import Literal

from pydantic import BaseModel, Field

from service.db.models import File

Order = Literal["asc", "desc"]


class FileObject(BaseModel):
    """An uploaded file. `rows` is ours: how many training rows it holds."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="Unix seconds.")
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    expires_at: int | None = None
    status_details: str | None = None
    rows: int | None = None

    @classmethod
    def of(cls, file: File) -> "FileObject":
        """The record as the wire shows it."""
        return cls.model_validate(
            {
                "id": file.id,
                "bytes": file.bytes,
                "created_at": int(file.created_at),
                "filename": file.filename,
                "purpose": file.purpose,
                "status": file.status,
                "expires_at": None if file.expires_at is None else int(file.expires_at),
                "rows": file.rows,
            }
        )


class FileDeleted(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
