"""Settings that check their fields when they are made; each field says what it allows where it is declared.

The fields are made with `choice`, `flag`, `number` and `whole` of `tvaccine_core.alignment.settings`. Imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from tvaccine_core.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class CheckedSettings:
    """Base class. subject: what the settings are of, for messages."""

    subject: ClassVar[str]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if "rule" in field.metadata:
                field.metadata["rule"](field.name, getattr(self, field.name))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds from plain JSON values; raises InvalidRequest with `param` set to the field at fault."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                message = f"{name} is no setting of {cls.subject}; use {', '.join(known)}."
                raise InvalidRequest(message, param=name)
        return cls(**{name: _as_declared(known[name].default, value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain JSON values; `from_dict` takes them back."""
        return dataclasses.asdict(self)


def _as_declared(default: Any, value: Any) -> Any:
    """JSON has one number type: 8.0 is a good number of rows."""
    whole = isinstance(default, int) and not isinstance(default, bool)
    return int(value) if whole and isinstance(value, float) and value.is_integer() else value
