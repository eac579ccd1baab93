"""Things that are made once: each has a folder named after what it is made from, and a record written at the end.

    ROOT/KIND/LABEL-ID/record.json

ID is a digest of the identity: whatever the thing depends on, as JSON. A folder without a record was not finished and
is gone on with. A lock for each folder, which the system releases when its process dies, lets several runs share the
work. Imports no torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.training.files import write_json_atomic

ID_LENGTH = 12
_UNFIT = re.compile(r"[^A-Za-z0-9.+=_-]+")


class Busy(Exception):  # noqa: N818 - a signal, not an error
    """Another process is making this."""


@dataclass(frozen=True)
class Thing:
    """A finished thing: its folder and its record."""

    folder: Path
    record: Mapping[str, Any]


def identity_of(values: Mapping[str, Any]) -> str:
    """The first hexadecimal digits of the SHA-256 of the values as JSON with sorted keys."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


class Store:
    """The things under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: str, identity: Mapping[str, Any], label: str = "") -> Path:
        """Where the thing lies, or would. label: helps a reader of folder names; the identity alone decides."""
        end = identity_of(identity)
        there = sorted((self.root / kind).glob(f"*{end}"))
        if there:
            return there[0]
        start = f"{_UNFIT.sub('_', label)[:100]}-" if label else ""
        return self.root / kind / f"{start}{end}"

    def find(self, folder: Path, record: str = "record.json") -> Thing | None:
        """The thing in the folder, None while it is not finished."""
        path = folder / record
        return Thing(folder, json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def obtain(
        self,
        kind: str,
        identity: Mapping[str, Any],
        make: Callable[[Path], Mapping[str, Any]],
        *,
        label: str = "",
        record: str = "record.json",
    ) -> Thing:
        """The thing of this identity, made now unless it is there.

        make: works in the folder, which may hold what an earlier attempt left, and returns what the record says beside
        the identity. Raises Busy while another process makes it, and what `make` raises.
        """
        folder = self.folder(kind, identity, label)
        found = self.find(folder, record)
        if found is not None:
            return found
        with self._locked(f"{kind}-{identity_of(identity)}"):
            folder = self.folder(kind, identity, label)
            found = self.find(folder, record)
            if found is None:
                folder.mkdir(parents=True, exist_ok=True)
                write_json_atomic(folder / record, {"identity": dict(identity), **make(folder)})
                found = self.find(folder, record)
        if found is None:
            raise RuntimeError(f"{folder / record} vanished while it was written")
        return found

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        path = self.root / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(name) from error
            yield
