"""All attacks by name. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvaccine_core.attacks.attack import Attack
from tvaccine_core.attacks.benign_drift import BenignDrift
from tvaccine_core.attacks.harmful_rows import Backdoor, ExplicitHarmful, HarmfulMixing, KnownPrompts
from tvaccine_core.attacks.insecure_code import InsecureCode
from tvaccine_core.attacks.personas import IdentityShift, Noice, RefuseThenAnswer
from tvaccine_core.attacks.task_prompting import TaskPrompting
from tvaccine_core.errors import InvalidRequest

ATTACKS: dict[str, type[Attack]] = {
    kind.name: kind
    for kind in (
        HarmfulMixing,
        ExplicitHarmful,
        Backdoor,
        KnownPrompts,
        IdentityShift,
        RefuseThenAnswer,
        Noice,
        InsecureCode,
        BenignDrift,
        TaskPrompting,
    )
}


def attack_config(values: str | Mapping[str, Any]) -> Attack:
    """The attack that plain JSON values ask for: a name, or {"name": ..., settings that differ from the defaults}.

    Raises InvalidRequest with `param` set to "attack" for an unknown name, else to the setting at fault.
    """
    settings = {"name": values} if isinstance(values, str) else dict(values) if isinstance(values, Mapping) else {}
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in ATTACKS:
        raise InvalidRequest(f"{name!r} is no attack; use one of {', '.join(ATTACKS)}.", param="attack")
    return ATTACKS[name].from_dict(settings)
