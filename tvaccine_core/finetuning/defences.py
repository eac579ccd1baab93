"""What a fine-tuning run can do against harmful rows, by name. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.finetuning.lisa_config import LisaConfig
from tvaccine_core.finetuning.panacea_config import PanaceaConfig
from tvaccine_core.finetuning.safe_mixing_config import SafeMixingConfig

Settings = LisaConfig | SafeMixingConfig | PanaceaConfig
Named = str | Mapping[str, Any]

DEFENCES: dict[str, type[Settings]] = {kind.name: kind for kind in (LisaConfig, SafeMixingConfig, PanaceaConfig)}
_PARAM = "defence"


@dataclass(frozen=True)
class Defence:
    """The defences of one run. mixing changes the rows, rule the way of training; either may be missing."""

    mixing: SafeMixingConfig | None = None
    rule: LisaConfig | PanaceaConfig | None = None

    @property
    def parts(self) -> tuple[Settings, ...]:
        """The settings of each defence, in the order they act."""
        return tuple(part for part in (self.mixing, self.rule) if part is not None)

    @property
    def needs_safe_rows(self) -> bool:
        """Whether the run opens a file of rows with safe answers."""
        mixed = self.mixing is not None and self.mixing.rate > 0
        return mixed or (isinstance(self.rule, LisaConfig) and self.rule.needs_safe_rows)

    @property
    def needs_harmful_rows(self) -> bool:
        """Whether the run opens a file of rows with harmful answers."""
        return isinstance(self.rule, PanaceaConfig)

    def to_list(self) -> list[dict[str, Any]]:
        """Name and settings of each defence as plain JSON values; `defence_config` takes them back."""
        return [{"name": part.name, **part.to_dict()} for part in self.parts]


def defence_config(values: Named | Sequence[Named]) -> Defence:
    """The defences that plain JSON values ask for.

    values: a name, {"name": ..., settings that differ from the defaults}, or a list of these. Safe-row mixing goes
    with either of the others. Raises InvalidRequest that names the field at fault and what to do.
    """
    several = [values] if isinstance(values, str) or not isinstance(values, Sequence) else values
    mixing: SafeMixingConfig | None = None
    rule: LisaConfig | PanaceaConfig | None = None
    for value in several:
        part = _one(value)
        taken = mixing if isinstance(part, SafeMixingConfig) else rule
        if taken is not None:
            raise _not_together(taken.name, part.name)
        if isinstance(part, SafeMixingConfig):
            mixing = part
        else:
            rule = part
    return Defence(mixing, rule)


def _one(value: Named) -> Settings:
    settings = {"name": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in DEFENCES:
        message = f"{name!r} is no defence of fine-tuning; use {', '.join(DEFENCES)}."
        raise InvalidRequest(message, param=_PARAM)
    return DEFENCES[name].from_dict(settings)


def _not_together(first: str, second: str) -> InvalidRequest:
    if first == second:
        return InvalidRequest(f"{first} is asked for twice; keep one of them.", param=_PARAM)
    message = f"{first} and {second} cannot steer one run; fine-tune with lisa and repair with panacea afterwards."
    return InvalidRequest(message, param=_PARAM)
