"""Settings of a screening. Imports no torch: the service checks them before any job runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from tvaccine_core.errors import InvalidRequest

Action = Literal["report", "drop", "block"]
"""Tell and go on, train without the rows, or refuse a file with too many of them."""
UNSCORED = "unscored"
"""The reason of a row that the judge cannot read."""


@dataclass(frozen=True)
class ScreenConfig:
    """When a row is flagged, when rows block a job, and what becomes of those that the judge cannot read.

    threshold: score from 0 to 1 from which on a row is flagged; None is the judge's own. part_margin: added to the
    threshold for anything but a whole supervised answer as it stands: of many looks at a row the worst counts, so
    each must be surer. block_percent: the share of rows to block, in percent, above which a file is refused: flagged
    ones with the policy `block`, unscored ones with unscored="block". similarity: Jaccard index from 0 to 1
    (0 excluded) from which on a prompt counts as a known one. unscored: what is done about rows in a language or
    script that the judge does not know, whatever the policy for flagged ones is.
    """

    threshold: float | None = None
    part_margin: float = 0.25
    block_percent: float = 10.0
    similarity: float = 0.6
    unscored: Action = "report"

    def __post_init__(self) -> None:
        if self.threshold is not None:
            _in_range("threshold", self.threshold, 0.0, 1.0)
        _in_range("part_margin", self.part_margin, 0.0, 1.0)
        _in_range("block_percent", self.block_percent, 0.0, 100.0)
        _in_range("similarity", self.similarity, 0.0, 1.0)
        if self.similarity == 0:
            raise InvalidRequest(
                "similarity must be above 0: every prompt is similar to that degree.", param="similarity"
            )
        if self.unscored not in get_args(Action):
            raise InvalidRequest(f"unscored must be report, drop or block, not {self.unscored!r}.", param="unscored")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScreenConfig:
        """Build from plain values; fields left out take their defaults. Raises InvalidRequest naming the field."""
        known = sorted(field.name for field in fields(cls))
        for name in values:
            if name not in known:
                raise InvalidRequest(f"{name} is not a screening setting; use {', '.join(known)}.", param=name)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return asdict(self)


def _in_range(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidRequest(f"{name} must be a number from {low:g} to {high:g}, not {value!r}.", param=name)
