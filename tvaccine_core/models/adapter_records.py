"""tvaccine.json: what an adapter directory says about where its adapter came from. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tvaccine_core.errors import BaseMismatch, InvalidRequest
from tvaccine_core.training.files import write_json_atomic

RECORD_FILE = "tvaccine.json"
KINDS = ("vaccine", "user", "combined")


def write_record(directory: Path, *, kind: str, base_name: str, base_digest: str, **facts: Any) -> None:
    """Writes the record: kind ("vaccine", "user" or "combined"), the base's public name and digest, and
    facts."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of adapter; use {', '.join(KINDS)}.")
    record = {"kind": kind, "base_name": base_name, "base_digest": base_digest, **facts}
    write_json_atomic(directory / RECORD_FILE, record)


def read_record(directory: Path) -> dict[str, Any]:
    """The record of an adapter directory. Raises InvalidRequest if there is none."""
    path = directory / RECORD_FILE
    if not path.is_file():
        raise InvalidRequest(f"{directory.name} is no adapter of tvaccine: it lacks {RECORD_FILE}; make it anew.")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def check_base(directory: Path, base_digest: str) -> None:
    """Raises BaseMismatch unless the adapter in `directory` was made for the base with this digest."""
    record = read_record(directory)
    if record.get("base_digest") != base_digest:
        raise BaseMismatch(
            f"The {record.get('kind', 'adapter')} was made for {record.get('base_name')} "
            f"({record.get('base_digest')}), not for weights {base_digest}; use that base "
            "or make the adapter anew."
        )
