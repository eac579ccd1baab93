"""The alignment methods by name. Torch-free."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from tvaccine_core.alignment.booster_config import BoosterConfig
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.repnoise_config import RepNoiseConfig
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.alignment.tar_config import TarConfig
from tvaccine_core.data.rows import Row, read_rows_file, require_valid
from tvaccine_core.errors import InvalidRequest

Method = Literal["t_vaccine", "vaccine", "sft", "repnoise", "tar", "booster"]
METHODS: tuple[str, ...] = get_args(Method)
DEFAULT_METHOD = "t_vaccine"

_CONFIGS: Mapping[str, type[AlignmentSettings]] = {
    "t_vaccine": TVaccineConfig,
    "vaccine": TVaccineConfig,
    "sft": TVaccineConfig,
    "repnoise": RepNoiseConfig,
    "tar": TarConfig,
    "booster": BoosterConfig,
}


def config_class(method: Any) -> type[AlignmentSettings]:
    """The class of a method's settings. Raises InvalidRequest (param "method") for a name that is none."""
    if not isinstance(method, str) or method not in _CONFIGS:
        raise InvalidRequest(f"method must be one of {', '.join(METHODS)}, not {method!r}.", param="method")
    return _CONFIGS[method]


def alignment_config(values: Mapping[str, Any]) -> AlignmentSettings:
    """The settings of an alignment run from plain JSON values; `method` (default "t_vaccine") says whose they are.

    Raises InvalidRequest with `param` set to the field at fault.
    """
    return config_class(values.get("method", DEFAULT_METHOD)).from_dict(values)


def carried_over(values: Mapping[str, Any], method: Any) -> dict[str, Any]:
    """What of `values`, made for their own method, also holds for `method`: all of it, or what all methods share.

    A name such as `alpha` means another thing in another method. Unknown names are kept, for `alignment_config` to
    refuse. Raises InvalidRequest (param "method") for a name that is no method.
    """
    own, asked = config_class(values.get("method", DEFAULT_METHOD)), config_class(method)
    if own is asked:
        return {**values, "method": method}
    special = _fields(own) - _fields(AlignmentSettings)
    return {**{name: value for name, value in values.items() if name not in special}, "method": method}


def _fields(of: type[AlignmentSettings]) -> set[str]:
    return {field.name for field in dataclasses.fields(of)}


@dataclasses.dataclass(frozen=True)
class AlignmentRows:
    """What a run reads. alignment: rows whose answers are safe. harmful: empty for a method that needs none."""

    alignment: tuple[Row, ...]
    harmful: tuple[Row, ...]


def read_alignment_rows(config: AlignmentSettings, alignment_file: Path, harmful_file: Path | None) -> AlignmentRows:
    """The rows of a run, checked; harmful_file is only opened where `config.needs_harmful_rows`.

    Raises InvalidRequest (param "harmful_file") if it is needed and missing or no good for the method, and
    InvalidTrainingFile naming every faulty row.
    """
    harmful: tuple[Row, ...] = ()
    if config.needs_harmful_rows:
        if harmful_file is None:
            raise InvalidRequest(
                f"The method '{config.method}' works with harmful rows: give a file of them, or "
                f"{config.without_harmful_rows}.",
                param="harmful_file",
            )
        harmful = require_valid(read_rows_file(harmful_file, min_rows=1))
    alignment = require_valid(read_rows_file(alignment_file, min_rows=1))
    config.check_rows(alignment, harmful)
    return AlignmentRows(alignment, harmful)
