"""The attacks of a grid, and how hard they train. Imports no torch.

    rows: 1000
    ratios: [0, 0.1]
    attacks: [harmful_mixing, {name: explicit_harmful, n: 100, ratio: 1}]
    training: {batch_size: 10, lora_r: 8}
    strengths: {weak: {learning_rate: 1e-5, steps: 200}, strong: {learning_rate: 1e-4, steps: 1000}}

At ratio 0 nothing of an attack is left, so that all attacks share one benign cell, with the first one's number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvaccine_core.attacks.attack import Attack
from tvaccine_core.attacks.registry import attack_config
from tvaccine_core.experiments.keys import label, mapping, refuse, under, whole
from tvaccine_core.finetuning.config import FineTuneConfig

BENIGN = "benign"
"""What the attacks are called at ratio 0."""

HEADROOM = 256
"""Tokens that a row may grow by when an attack or a defence puts something around it."""

SET_BY_STRENGTH = ("learning_rate", "epochs", "max_steps", "steps")


@dataclass(frozen=True)
class AttackPlan:
    """One attack at one ratio. label: its name in tables."""

    label: str
    attack: Attack


@dataclass(frozen=True)
class Strength:
    """How hard the attacked rows are trained on: values of FineTuneConfig, the same for every method."""

    name: str
    values: Mapping[str, Any]

    def config(self, seed: int) -> FineTuneConfig:
        """The settings of the fine-tuning run in a cell."""
        return FineTuneConfig.from_dict({**self.values, "seed": seed})


def attack_plans(value: Any, path: str, rows: int, ratios: Sequence[float]) -> list[AttackPlan]:
    """Every attack at every ratio; one that sets its own ratio at that one alone. Raises InvalidRequest."""
    given = {"name": value} if isinstance(value, str) else mapping(value, path, None, ["name"])
    name = label(given.pop("label", given["name"]), f"{path}.label")
    if name == BENIGN:
        refuse(f"{path}.label", f"{BENIGN} is what all attacks are called at ratio 0; choose another name.")
    with under(path):
        attack = attack_config({"n": rows, **given})
    found = [attack] if "ratio" in given else [replace(attack, ratio=ratio) for ratio in ratios]
    # A ratio so low that no row is the attack's is benign too.
    return [AttackPlan(name, one) if one.poisoned else AttackPlan(BENIGN, replace(one, ratio=0.0)) for one in found]


def without_twins(plans: Sequence[AttackPlan]) -> list[AttackPlan]:
    """The plans, each label and ratio once: of several benign ones the first."""
    kept: dict[tuple[str, float], AttackPlan] = {}
    for plan in plans:
        kept.setdefault((plan.label, plan.attack.ratio), plan)
    return list(kept.values())


def strengths(value: Any, path: str, training: Any, training_path: str, max_length: int) -> list[Strength]:
    """The strengths by name. training: what all share beside learning rate and length. Raises InvalidRequest."""
    common = mapping(training if training is not None else {}, training_path)
    longest = {"max_length": max_length + HEADROOM}
    for key in (*SET_BY_STRENGTH, "seed"):
        if key in common:
            refuse(f"{training_path}.{key}", "belongs to each of `strengths`, or to `seeds`; move it there.")
    found = []
    for name, given in mapping(value, path).items():
        where = f"{path}.{name}"
        own = mapping(given, where, SET_BY_STRENGTH, ["learning_rate"])
        if sum(key in own for key in ("steps", "max_steps", "epochs")) != 1:
            refuse(where, "needs one of steps and epochs: how long the attack trains.")
        if "steps" in own:
            own["max_steps"] = whole(own.pop("steps"), f"{where}.steps", 1, 10**7)
        strength = Strength(label(name, where), {**longest, **common, **own})
        for at, values in ((training_path, {**longest, **common}), (where, own)):
            with under(at):
                FineTuneConfig.from_dict(values)
        found.append(strength)
    if not found:
        refuse(path, "needs at least one strength, such as {strong: {learning_rate: 1e-4, steps: 200}}.")
    return found
