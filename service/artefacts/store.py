"""The artefact store: a local directory with one sub-directory an area.

A key names either one file or one directory of files. What lies under a key never changes: it is written
under a temporary name, synced to the disk and renamed. Only `release` moves something between areas.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from service.artefacts import durable
from service.artefacts.keys import AREAS, Area, check_key, check_name, moved_to, new_key
from service.ids import new_id
from tvaccine_core.errors import Conflict, InvalidRequest, NotFound

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Stored:
    """What was put. `size` in bytes; `sha256`: hexadecimal, of the file or a directory's adapter weights."""

    key: str
    size: int
    sha256: str


class ArtefactStore:
    """Files and directories under `root`, which is made if it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary_root = root / "temporary"
        for directory in (*AREAS, self._temporary_root.name):
            (root / directory).mkdir(mode=0o700, parents=True, exist_ok=True)

    def put_file(self, area: Area, source: BinaryIO, *, max_bytes: int | None = None) -> Stored:
        """Store a stream. Raises PayloadTooLarge, leaving nothing, when it has more than `max_bytes`."""
        key = new_key(area)
        with self._temporary() as temporary:
            size, sha256 = durable.copy_stream(source, temporary, max_bytes)
            durable.publish(temporary, self._path(key))
        return Stored(key, size, sha256)

    def put_tree(self, area: Area, directory: Path) -> Stored:
        """Store the regular files of `directory`.

        `sha256` is that of its ``adapter_model.safetensors``, empty if it has none. Raises InvalidRequest
        for a link or a name that is not plain.
        """
        key = new_key(area)
        with self._temporary() as temporary:
            size, digests = self._copy_tree(directory, temporary)
            durable.publish(temporary, self._path(key))
        return Stored(key, size, digests.get(WEIGHTS, ""))

    def path(self, key: str, name: str | None = None) -> Path:
        """Where the stored file or directory lies; read it, never write it. Raises NotFound."""
        path = self._path(key, name)
        if not path.exists():
            raise NotFound(f"Nothing is stored under {key}.")
        return path

    def open(self, key: str, name: str | None = None) -> BinaryIO:
        """The bytes of a stored file, or of the file `name` of a stored directory. Raises NotFound."""
        path = self.path(key, name)
        if not path.is_file():
            raise NotFound(f"{key} is not a file.")
        return path.open("rb")

    def read(self, key: str, name: str | None = None) -> bytes:
        """All bytes of a stored file. Raises NotFound."""
        with self.open(key, name) as stream:
            return stream.read()

    def names(self, key: str) -> list[str]:
        """Sorted relative names of the files of a stored directory. Raises NotFound."""
        root = self.path(key)
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def exists(self, key: str) -> bool:
        """Is anything stored under the key?"""
        return self._path(key).exists()

    def delete(self, key: str) -> None:
        """Remove what is stored under the key, if anything is."""
        path = self._path(key)
        if path.is_dir():
            # Renamed first: a crash half-way must not leave half a directory under a good key.
            with self._temporary() as temporary:
                path.rename(temporary)
        else:
            durable.remove(path)

    def release(self, quarantine_key: str, expected_sha256: str) -> str:
        """Move an adapter from quarantine to the released ones; its new key.

        The weights are copied and must then have exactly the SHA-256 that was scored, else Conflict is
        raised and nothing is released. Safe to repeat after a crash at any point. Raises NotFound.
        """
        check_key(quarantine_key, "quarantine")
        released_key = moved_to(quarantine_key, "released")
        if not self.exists(released_key):
            with self._temporary() as temporary:
                _, digests = self._copy_tree(self.path(quarantine_key), temporary)
                _require_scored(digests.get(WEIGHTS, ""), expected_sha256)
                durable.publish(temporary, self._path(released_key))
        _require_scored(durable.file_sha256(self.path(released_key, WEIGHTS)), expected_sha256)
        self.delete(quarantine_key)
        return released_key

    def sweep_temporary(self, older_than_seconds: float = 86_400.0) -> int:
        """Remove what crashed writers left behind; the number of leavings."""
        limit = time.time() - older_than_seconds
        left = [path for path in self._temporary_root.iterdir() if path.lstat().st_mtime < limit]
        for path in left:
            durable.remove(path)
        return len(left)

    def _path(self, key: str, name: str | None = None) -> Path:
        path = self._root / check_key(key)
        return path if name is None else path / check_name(name)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A free path on the same file system, removed at the end if it is still there."""
        path = self._temporary_root / new_id()
        try:
            yield path
        finally:
            durable.remove(path)

    def _copy_tree(self, source: Path, target: Path) -> tuple[int, dict[str, str]]:
        """Copy the files of a directory to the disk; (bytes, SHA-256 by relative name)."""
        target.mkdir(mode=0o700)
        total, digests = 0, {}
        for path in sorted(source.rglob("*")):
            name = check_name(str(path.relative_to(source)))
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise InvalidRequest(f"{name} is not a plain file and cannot be stored.")
            if path.is_dir():
                (target / name).mkdir(mode=0o700)
                continue
            with path.open("rb") as stream:
                size, digests[name] = durable.copy_stream(stream, target / name)
            total += size
        durable.sync_tree(target)
        return total, digests


def _require_scored(sha256: str, expected: str) -> None:
    if not expected or sha256 != expected:
        raise Conflict("The adapter's weights are not the ones that were scored.", code="adapter_changed")
