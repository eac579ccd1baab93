"""The user adapter that a repair starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.adapter_files import WEIGHTS_FILE
from tvaccine_core.models.adapter_records import read_record
from tvaccine_core.models.digest import sha256_of


def earlier_record(directory: Path, vaccine_dir: Path | None) -> dict[str, Any]:
    """The adapter's record. Raises InvalidRequest unless it is a user adapter that was trained beside this vaccine."""
    record = read_record(directory)
    if record["kind"] != "user":
        message = f"{directory.name} is a {record['kind']} adapter; give the user/ directory of a fine-tuning run."
        raise InvalidRequest(message, param="user_adapter_dir")
    vaccine = None if vaccine_dir is None else sha256_of([vaccine_dir / WEIGHTS_FILE])
    if record.get("vaccine_sha256", vaccine) != vaccine:
        message = f"{directory.name} was trained beside another vaccine; give that one as vaccine_dir."
        raise InvalidRequest(message, param="vaccine_dir")
    return record
