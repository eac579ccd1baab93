"""The run configurations that the operator's settings lead to, as the core's frozen dataclasses."""

from collections.abc import Callable, Mapping
from typing import Any

from service.policies import POLICIES
from service.settings import Settings
from tvaccine_core.alignment.methods import alignment_config, carried_over
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.certificate.config import CertificateConfig
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.screening_config import ScreenConfig
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.defences import Defence, defence_config
from tvaccine_core.repair.config import RepairConfig


def vaccine_config(
    settings: Settings, method: str | None = None, overrides: Mapping[str, Any] | None = None
) -> AlignmentSettings:
    """How a vaccine is made: `overrides` win over the settings, these over the policy, `method` over all of them.

    Where another method is asked for, only what all methods share is taken from what it wins over.
    Raises InvalidRequest naming the field.
    """
    policy = {"save_every": settings.save_every, **POLICIES[settings.policy].vaccine}
    return alignment_config(_over(_over(policy, settings.vaccine), overrides or {}, method))


def _over(values: Mapping[str, Any], own: Mapping[str, Any], method: str | None = None) -> dict[str, Any]:
    """`own` on top of `values`, for `method` or else for the method that `own` names, if any."""
    asked = own.get("method") if method is None else method
    if asked is None:
        return {**values, **own}
    return {**carried_over(values, asked), **own, "method": asked}


def fine_tune_config(settings: Settings, overrides: Mapping[str, Any] | None = None) -> FineTuneConfig:
    """How a user adapter is trained. Raises InvalidRequest naming the field."""
    return FineTuneConfig.from_dict({"save_every": settings.save_every, **settings.fine_tune, **(overrides or {})})


def fine_tune_defence(settings: Settings) -> Defence:
    """What a fine-tuning does against harmful rows. Raises InvalidRequest naming the field."""
    named = POLICIES[settings.policy].defences if settings.defences is None else settings.defences
    return defence_config(list(named))


def repair_config(settings: Settings) -> RepairConfig:
    """How a model that did not pass the gate is repaired. Raises InvalidRequest naming the field."""
    return RepairConfig.from_dict({"save_every": settings.save_every, **settings.repair})


def job_policy(settings: Settings) -> dict[str, Any]:
    """What a job goes through: `defences`, a list of names with settings, and `repair`, None or the settings of one.

    Raises InvalidRequest naming the field.
    """
    repair = (
        None if settings.repairing == "off" else {"method": settings.repairing, **repair_config(settings).to_dict()}
    )
    return {"defences": fine_tune_defence(settings).to_list(), "repair": repair}


def screening_policy(settings: Settings) -> dict[str, Any]:
    """What a screening does now: `policy` for flagged rows, `unscored` for others, and, where one blocks, the share."""
    rule = ScreenConfig.from_dict(settings.screening_rules)
    blocks = "block" in (settings.screening, rule.unscored)
    return {
        "policy": settings.screening,
        "unscored": rule.unscored,
        "block_percent": rule.block_percent if blocks else None,
    }


def score_config(settings: Settings) -> ScoreConfig:
    """The rule of the gate, as it is set now. Raises InvalidRequest naming the field."""
    return ScoreConfig.from_dict(settings.gate)


def certificate_config(settings: Settings) -> CertificateConfig:
    """How a vaccine is attacked before it is used. Raises InvalidRequest naming the field.

    An attacker trains as the server's users do, unless the rules say otherwise.
    """
    rules = dict(settings.certificate_rules)
    own = rules.get("fine_tune", {})
    if isinstance(own, Mapping):
        rules["fine_tune"] = {"save_every": settings.save_every, **settings.fine_tune, **own}
    return CertificateConfig.from_dict(rules)


def check_configurations(settings: Settings) -> None:
    """Let a process refuse to start on settings that no job could run with.

    Raises InvalidRequest (code ``invalid_settings``) that names the variable and the field.
    """
    parts: tuple[tuple[str, Callable[[Settings], object]], ...] = (
        ("VACCINE", vaccine_config),
        ("FINE_TUNE", fine_tune_config),
        ("DEFENCES", fine_tune_defence),
        ("REPAIR", repair_config),
        ("GATE", score_config),
        ("CERTIFICATE_RULES", certificate_config),
    )
    for name, build in parts:
        try:
            build(settings)
        except InvalidRequest as error:
            message = f"TVACCINE_{name}: {error.message}"
            raise InvalidRequest(message, code="invalid_settings", param=error.param) from error
    if score_config(settings).skip_gate:
        message = "TVACCINE_GATE: skip_gate would release what was never judged; remove it."
        raise InvalidRequest(message, code="invalid_settings", param="skip_gate")
