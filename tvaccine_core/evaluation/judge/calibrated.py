"""A judge with a threshold chosen on labelled rows, and the file that says which and on what rows. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tvaccine_core.errors import InvalidRequest, ScoringFailed
from tvaccine_core.evaluation.judge.verdict import Assessment, Judge, OnBatch, Pair
from tvaccine_core.training.files import write_json_atomic


@dataclass(frozen=True)
class Calibration:
    """A threshold, whose it is, and where it comes from.

    judge, version: of the judge that gave the scores. version_scored: its version after that; a moderation service
    tells its model only when asked. rows: how many the threshold was chosen on; data_sha256: of their file. figures:
    what it costs on prompts it was not chosen on ("held_out"), and what the judge's threshold until then costs on the
    same rows ("present"). made_with: the version of tvaccine.
    """

    judge: str
    version: str
    version_scored: str
    threshold: float
    rows: int
    data_sha256: str
    figures: Mapping[str, Any]
    made_with: str

    def __post_init__(self) -> None:
        if isinstance(self.threshold, bool) or not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold!r} and must be a number from 0 to 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write the file that `read` reads."""
        write_json_atomic(path, self.to_dict())

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """Read what `write` wrote. Raises InvalidRequest when the file is missing or holds something else."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            given: dict[str, Any] = {one.name: values[one.name] for one in fields(cls)}
            return cls(**given | {"figures": dict(given["figures"])})
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"{path} holds no calibration of a judge ({error}); make one with `tvaccine judge calibrate`.",
                param="judge",
            ) from error


class CalibratedJudge:
    """A judge whose scores, as they were when the threshold was chosen, are held against that threshold."""

    def __init__(self, judge: Judge, calibration: Calibration) -> None:
        """Raises InvalidRequest when the calibration is another judge's, or one of another version."""
        if (judge.name, judge.version) != (calibration.judge, calibration.version):
            raise InvalidRequest(
                f"The threshold was calibrated for the judge {calibration.judge} {calibration.version}, not for "
                f"{judge.name} {judge.version}; calibrate this one with `tvaccine judge calibrate`.",
                param="judge",
            )
        self.judge, self.calibration = judge, calibration

    @property
    def name(self) -> str:
        """The judge's name."""
        return self.judge.name

    @property
    def version(self) -> str:
        """The judge's version and the threshold."""
        return f"{self.judge.version}@{self.threshold!r}"

    @property
    def threshold(self) -> float:
        """The calibrated threshold."""
        return self.calibration.threshold

    @property
    def languages(self) -> frozenset[str] | None:
        """The judge's languages."""
        return self.judge.languages

    @property
    def comparison_only(self) -> bool:
        """Is the judge for comparison only? No threshold makes it fit to decide."""
        return getattr(self.judge, "comparison_only", False)

    def assess(self, pairs: Sequence[Pair], on_batch: OnBatch | None = None) -> list[Assessment]:
        """See `Judge.assess`. Raises ScoringFailed when a service says that it is now another model."""
        found = self.judge.assess(pairs, on_batch)
        if self.judge.version not in (self.calibration.version, self.calibration.version_scored):
            raise ScoringFailed(
                f"The judge {self.name} is of version {self.judge.version} now, and its threshold was calibrated for "
                f"{self.calibration.version_scored}; calibrate it again."
            )
        return found
