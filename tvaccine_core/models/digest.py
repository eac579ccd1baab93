"""Digests of base weights: what a vaccine and an adapter recognise their base by. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tvaccine_core.errors import UnknownBase
from tvaccine_core.models.registry import cache_dir
from tvaccine_core.training.files import write_json_atomic

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_BLOCK = 1 << 20


def sha256_of(paths: Sequence[Path]) -> str:
    """Hex SHA-256 of the files' bytes one after the other, read in blocks."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                total.update(block)
    return total.hexdigest()


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that make up a model directory, sorted by name.

    Raises UnknownBase if there are none: weights in other formats are pickled and never loaded.
    """
    if (directory / INDEX).is_file():
        index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        names = sorted({str(name) for name in index["weight_map"].values()})
        paths = [directory / Path(name).name for name in names]
    else:
        paths = [directory / SINGLE]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise UnknownBase(
            f"The model directory {directory.name} lacks {', '.join(missing)}; save the model with "
            "save_pretrained, which writes safetensors."
        )
    return paths


def directory_digest(directory: Path) -> str:
    """ "sha256:..." over the weight files of a model directory; see `files_digest`."""
    return files_digest(weight_files(directory))


def files_digest(paths: Sequence[Path]) -> str:
    """ "sha256:..." over the files in order.

    Computed once for files of the same path, size and modification time; the note of it lies in the cache,
    never beside the user's files.
    """
    seen = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    key = hashlib.sha256(json.dumps(seen).encode()).hexdigest()
    note = cache_dir() / "digests" / f"{key}.json"
    if note.is_file():
        return str(json.loads(note.read_text(encoding="utf-8"))["digest"])
    digest = f"sha256:{sha256_of(paths)}"
    write_json_atomic(note, {"digest": digest, "files": seen})
    return digest
