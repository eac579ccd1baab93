"""A judge by its name; see `names` for what names there are."""

from __future__ import annotations

from pathlib import Path

from tvaccine_core.evaluation.judge.calibrated import CalibratedJudge, Calibration
from tvaccine_core.evaluation.judge.classifier import SequenceClassifierJudge
from tvaccine_core.evaluation.judge.ensemble import Ensemble
from tvaccine_core.evaluation.judge.guards.form import GuardForm
from tvaccine_core.evaluation.judge.guards.generative import GenerativeGuard
from tvaccine_core.evaluation.judge.guards.granite_guardian import GraniteGuardianForm
from tvaccine_core.evaluation.judge.guards.llama_guard import LlamaGuard4Form, LlamaGuardForm
from tvaccine_core.evaluation.judge.guards.shieldgemma import ShieldGemmaForm
from tvaccine_core.evaluation.judge.guards.wildguard import WildGuardForm
from tvaccine_core.evaluation.judge.keyword import KeywordJudge
from tvaccine_core.evaluation.judge.moderations import ModerationsJudge
from tvaccine_core.evaluation.judge.names import (
    CLASSIFIER,
    DIRECTORY,
    EMBEDDED,
    KEYWORD,
    MODERATIONS,
    JudgeName,
    require_gate_name,
    require_judge_name,
)
from tvaccine_core.evaluation.judge.probe import SHIPPED, Probe, ProbeJudge
from tvaccine_core.evaluation.judge.verdict import Judge
from tvaccine_core.models.base import Base

FORMS: dict[str, type[GuardForm]] = {
    form.name: form for form in (LlamaGuardForm, LlamaGuard4Form, ShieldGemmaForm, WildGuardForm, GraniteGuardianForm)
}


def load_judge(
    name: str | Path | None,
    base: Base,
    *,
    allow_comparison: bool = False,
    device: str | None = None,
    guard_dtype: str = "auto",
    classifier_dtype: str = "float32",
) -> Judge:
    """The judge of a name, of a directory, or the shipped one (None).

    base: what the embedded judge and trained ones read; the others are models of their own, on `device` (the
    base's, unless one is given). allow_comparison: also judges that may only be measured, never decide.
    Raises InvalidRequest for a name that means no judge, for a model that is not of the kind named, for
    a judge made for comparison where none is allowed, and for a calibration of another judge; BaseMismatch for
    another base's judge.
    """
    if isinstance(name, Path):
        read = JudgeName(DIRECTORY, str(name))
    else:
        check = require_judge_name if allow_comparison else require_gate_name
        read = check(EMBEDDED if name is None else name)
    where = device or str(base.model.device)

    def load(one: JudgeName) -> Judge:
        if one.calibration_file is not None:
            return CalibratedJudge(load(one.bare), Calibration.read(one.calibration_file))
        if one.members:
            return Ensemble(one.kind, [load(member) for member in one.members])
        if one.kind == EMBEDDED:
            return ProbeJudge(Probe.load(SHIPPED), base)
        if one.kind == DIRECTORY:
            return ProbeJudge(Probe.load(Path(one.place).expanduser()), base)
        if one.kind == KEYWORD:
            return KeywordJudge()
        if one.kind in MODERATIONS:
            return ModerationsJudge.load(one)
        if one.kind == CLASSIFIER:
            return SequenceClassifierJudge.load(one, device=where, dtype=classifier_dtype)
        return GenerativeGuard.load(FORMS[one.kind], one, device=where, dtype=guard_dtype)

    return load(read)
