"""The model under test: a stock base with the adapters that are to be scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tvaccine_core.data.datasets import file_digest
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.adapter_records import read_record
from tvaccine_core.models.adapters import load_combined
from tvaccine_core.models.base import Base, load_base
from tvaccine_core.models.combination import combine_adapters

WEIGHTS_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class Subject:
    """base:

    its model carries the adapter, which can be switched off. adapter_sha256: of the weights scored, or
    None.
    """

    base: Base
    adapter_sha256: str | None


def load_subject(base: str, vaccine_dir: Path | None, adapter_dir: Path | None, *, dtype: str, device: str) -> Subject:
    """Load the base with one adapter: the given one, or vaccine and user adapter combined.

    Raises BaseMismatch for adapters of another base and InvalidRequest for a vaccine beside an adapter that
    holds one already.
    """
    loaded = load_base(base, dtype=dtype, device=device)
    if vaccine_dir is not None and adapter_dir is not None:
        if read_record(adapter_dir)["kind"] != "user":
            raise InvalidRequest("This adapter holds its vaccine already; leave the vaccine out.", param="vaccine")
        with TemporaryDirectory() as folder:
            combined = Path(folder) / "combined"
            combine_adapters(vaccine_dir, adapter_dir, combined, base_id=loaded.name, base_digest=loaded.digest)
            return _with_adapter(loaded, combined)
    only = adapter_dir or vaccine_dir
    return Subject(loaded, None) if only is None else _with_adapter(loaded, only)


def _with_adapter(base: Base, directory: Path) -> Subject:
    model = load_combined(base.model, directory, base_digest=base.digest)
    digest = file_digest(directory / WEIGHTS_FILE)
    return Subject(replace(base, model=model), digest)
