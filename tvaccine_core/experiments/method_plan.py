"""The defences of a grid: what a model goes through before, during and after the attack. Imports no torch.

    methods:
      - name: t_vaccine + lisa
        alignment: {method: t_vaccine, rho: 0.3, steps: 80}   # or none
        finetuning: {name: lisa, rho: 1}                      # or none; a list stacks safe_mixing with another
        repair: {steps: 20, panacea: {rho: 1}}                # or {name: random_noise, sigma: 0.01}, or none

`seconds` in place of `steps` gives an alignment as many steps as take that long here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvaccine_core.alignment.methods import alignment_config
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.experiments.attack_plan import HEADROOM
from tvaccine_core.experiments.keys import label, mapping, number, refuse, under
from tvaccine_core.finetuning.defences import Defence, defence_config
from tvaccine_core.finetuning.panacea_config import PanaceaConfig
from tvaccine_core.repair.config import RepairConfig
from tvaccine_core.repair.noise_config import RANDOM_NOISE, NoiseConfig

NONE, NAME = "none", "name"
REPAIRS: dict[str, type[RepairConfig] | type[NoiseConfig]] = {
    PanaceaConfig.name: RepairConfig,
    RANDOM_NOISE: NoiseConfig,
}
KEYS = ("name", "alignment", "finetuning", "repair", "tune")
STAGES = ("alignment", "finetuning", "repair")
LONGEST_RUN = 10.0**7
SEED_ONLY_FOR_CHECKING = 0


@dataclass(frozen=True)
class MethodPlan:
    """One line of the tables. alignment, repair: values without the cell's seed; None: that stage is left out.

    seconds: wall-clock time that the alignment's steps should take; None: its `steps` say how many.
    family: the method that this is a trial of, in a sweep; else its own name. tuned: what the trial sets.
    """

    name: str
    alignment: Mapping[str, Any] | None = None
    seconds: float | None = None
    defence: Defence = field(default_factory=Defence)
    repair: Mapping[str, Any] | None = None
    family: str = ""
    tuned: Mapping[str, Any] = field(default_factory=dict)

    def alignment_settings(self, seed: int) -> AlignmentSettings | None:
        """The alignment's settings; the cell's seed unless the grid fixes one."""
        return None if self.alignment is None else alignment_config({"seed": seed, **self.alignment})

    def repair_settings(self, seed: int) -> RepairConfig | NoiseConfig | None:
        """The repair's settings; the cell's seed unless the grid fixes one."""
        if self.repair is None:
            return None
        values = {"seed": seed, **self.repair}
        kind = REPAIRS[values.pop(NAME)]
        return kind.from_dict(values)

    @property
    def repairs_with_harmful_rows(self) -> bool:
        """Whether the repair opens the provider's harmful rows."""
        return self.repair is not None and self.repair[NAME] == PanaceaConfig.name

    @property
    def needs(self) -> tuple[str, ...]:
        """The provider's rows that this method opens."""
        settings = self.alignment_settings(SEED_ONLY_FOR_CHECKING)
        found = [] if settings is None else ["alignment"]
        harmful = settings is not None and settings.needs_harmful_rows
        if harmful or self.defence.needs_harmful_rows or self.repairs_with_harmful_rows:
            found.append("harmful")
        return (*found, "safe") if self.defence.needs_safe_rows else tuple(found)


def method_plan(values: Any, path: str, max_length: int, family: str = "") -> MethodPlan:
    """The method that a grid's value describes. max_length: tokens of a row. Raises InvalidRequest."""
    given = mapping({"name": values, "alignment": values} if isinstance(values, str) else values, path, KEYS, ["name"])
    name = label(given["name"], f"{path}.name")
    alignment, seconds = _alignment(given.get("alignment"), f"{path}.alignment", max_length)
    repair = _repair(given.get("repair"), f"{path}.repair", max_length)
    with under(f"{path}.finetuning"):
        defence = Defence() if _is_none(given.get("finetuning")) else defence_config(given["finetuning"])
    plan = MethodPlan(name, alignment, seconds, defence, repair, family or name)
    for stage, check in (("alignment", plan.alignment_settings), ("repair", plan.repair_settings)):
        with under(f"{path}.{stage}"):
            check(SEED_ONLY_FOR_CHECKING)
    return plan


def _alignment(value: Any, path: str, max_length: int) -> tuple[dict[str, Any] | None, float | None]:
    if _is_none(value):
        return None, None
    given = {"method": value} if isinstance(value, str) else mapping(value, path, None, ["method"])
    seconds = given.pop("seconds", None)
    if seconds is None:
        return {"max_length": max_length, **given}, None
    if "steps" in given:
        refuse(f"{path}.seconds", "says how long the steps may take; leave `steps` out, or `seconds`.")
    return {"max_length": max_length, **given}, number(seconds, f"{path}.seconds", 1.0, LONGEST_RUN)


def _repair(value: Any, path: str, max_length: int) -> dict[str, Any] | None:
    if _is_none(value):
        return None
    given = {"name": value} if isinstance(value, str) else mapping(value, path)
    name = given.pop(NAME, PanaceaConfig.name)
    if name not in REPAIRS:
        refuse(f"{path}.{NAME}", f"{name!r} is no repair; use {' or '.join(REPAIRS)}.")
    longest = {"max_length": max_length + HEADROOM} if name == PanaceaConfig.name else {}
    return {NAME: name, **longest, **given}


def _is_none(value: Any) -> bool:
    return value is None or value == NONE or (isinstance(value, Sequence) and not isinstance(value, str) and not value)
