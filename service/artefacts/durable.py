"""Writing files so that a crash leaves either the whole of them or nothing under their final name."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from tvaccine_core.errors import PayloadTooLarge

_CHUNK = 1024 * 1024


def copy_stream(source: BinaryIO, target: Path, max_bytes: int | None = None) -> tuple[int, str]:
    """Write `source` to the new file `target` and to the disk; (bytes, SHA-256 in hexadecimal).

    Raises PayloadTooLarge once more than `max_bytes` came; `target` is then left for the caller to remove.
    """
    size, digest = 0, hashlib.sha256()
    with target.open("xb") as out:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if max_bytes is not None and size > max_bytes:
                raise PayloadTooLarge(f"The file is larger than the limit of {max_bytes} bytes. Send a smaller one.")
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return size, digest.hexdigest()


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """Make the names in `directory` and below durable."""
    for root, _, _ in os.walk(directory):
        sync_directory(Path(root))


def publish(temporary: Path, target: Path) -> None:
    """Give a finished file or directory its final name, in one step that survives a crash."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary.rename(target)
    sync_directory(target.parent)


def remove(path: Path) -> None:
    """Remove a file or a directory tree; nothing happens if it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=False)
    else:
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
