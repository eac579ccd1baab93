"""Whether a directory holds a vaccine that was made, or begun, and from what. Importing it loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.data.datasets import file_digest
from tvaccine_core.models.adapter_records import RECORD_FILE

CONFIG, REPORT = "config.json", "report.json"


def made_from(config: AlignmentSettings, alignment_file: Path, harmful_file: Path | None) -> dict[str, Path]:
    """The files that a vaccine with these settings comes from, by the names that its record gives their digests."""
    files = {"alignment": alignment_file}
    if config.needs_harmful_rows and harmful_file is not None:
        files["harmful"] = harmful_file
    return files


def is_finished(out: Path, base_digest: str, config: AlignmentSettings, files: Mapping[str, Path]) -> bool:
    """Does `out` hold all that `align` leaves of a run with this base, these settings and these files?

    base_digest: as `models.base.base_digest` gives it. files: as `made_from` gives them. A later run with other
    settings that began in `out` has written its own config.json there: then the answer is no.
    """
    from tvaccine_core.models.adapter_files import WEIGHTS_FILE

    record, begun = _read(out / RECORD_FILE), _read(out / CONFIG)
    if record is None or begun is None or not all((out / name).is_file() for name in (WEIGHTS_FILE, REPORT)):
        return False
    asked = json.loads(json.dumps(config.to_dict()))
    same_settings = record.get("config") == asked and asked.items() <= begun.items()
    same_data = record.get("digests") == {name: file_digest(path) for name, path in files.items()}
    return same_settings and same_data and record.get("base_digest") == base_digest


def begun_otherwise(out: Path, config: AlignmentSettings) -> list[str]:
    """Names of the settings in which a run that was begun in `out` differs from this one; none without such a run.

    How often a run is saved changes nothing that it learns.
    """
    begun = _read(out / CONFIG)
    asked: dict[str, Any] = json.loads(json.dumps({**config.to_dict(), "save_every": None}))
    if begun is None:
        return []
    begun["save_every"] = None
    return sorted(name for name, value in asked.items() if begun.get(name) != value)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
