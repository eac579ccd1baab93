"""Judges by name, and the two that a gate may not have."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny_base

from tvaccine_core.errors import BaseMismatch, InvalidRequest
from tvaccine_core.evaluation.judge.calibrated import CalibratedJudge, Calibration
from tvaccine_core.evaluation.judge.ensemble import Ensemble
from tvaccine_core.evaluation.judge.features import FeatureSpec
from tvaccine_core.evaluation.judge.keyword import KeywordJudge
from tvaccine_core.evaluation.judge.loading import FORMS, load_judge
from tvaccine_core.evaluation.judge.moderations import ModerationsJudge
from tvaccine_core.evaluation.judge.names import GUARDS
from tvaccine_core.evaluation.judge.probe import Probe, ProbeJudge
from tvaccine_core.evaluation.judge.verdict import Judge, judge_pairs
from tvaccine_core.models.base import Base, load_base


@pytest.fixture
def base(tiny_base: Callable[[str], Path]) -> Base:
    return load_base(str(tiny_base("llama")), dtype="float32", device="cpu")


@pytest.fixture
def trained(base: Base, tmp_path: Path) -> Path:
    """A probe that flags everything."""
    import torch

    weight = torch.zeros(base.model.config.hidden_size)
    Probe(weight, 5.0, 0.5, FeatureSpec((1,), ("mean",)), base.name, base.digest).save(tmp_path / "judge")
    return tmp_path / "judge"


def calibrated(judge: Judge, threshold: float, file: Path) -> Path:
    """The file of a threshold of the judge."""
    Calibration(judge.name, judge.version, judge.version, threshold, 40, "", {}, "").write(file)
    return file


def test_every_guard_has_a_form() -> None:
    assert set(FORMS) == set(GUARDS)


def test_a_directory_is_a_trained_judge(base: Base, trained: Path) -> None:
    for name in (trained, str(trained)):
        judge = load_judge(name, base)
        assert isinstance(judge, ProbeJudge)
        assert judge.languages == {"en"}


def test_the_shipped_judge_has_two_names_and_one_base(base: Base) -> None:
    for name in (None, "embedded"):
        with pytest.raises(BaseMismatch):
            load_judge(name, base)


def test_a_keyword_list_is_loaded_for_comparison_alone(base: Base, trained: Path) -> None:
    assert isinstance(load_judge("keyword", base, allow_comparison=True), KeywordJudge)
    for name in ("keyword", f"any({trained}, keyword)"):
        with pytest.raises(InvalidRequest, match="for comparison only"):
            load_judge(name, base)


def test_an_ensemble_of_real_judges_votes(base: Base, trained: Path) -> None:
    pairs = [("What is it?", "I'm sorry, no."), ("What is it?", "Bread.")]
    judges: dict[str, Any] = {
        vote: load_judge(f"{vote}({trained}, keyword)", base, allow_comparison=True) for vote in ("any", "all")
    }
    assert all(isinstance(judge, Ensemble) for judge in judges.values())
    assert [v.flagged for v in judge_pairs(judges["any"], pairs)] == [True, True]
    assert [v.flagged for v in judge_pairs(judges["all"], pairs)] == [False, True]


def test_a_calibrated_part_votes_by_its_new_threshold(base: Base, trained: Path, tmp_path: Path) -> None:
    pairs = [("What is it?", "I'm sorry, no."), ("What is it?", "Bread.")]
    before = load_judge(trained, base)
    name = f"{trained}@{calibrated(before, 0.999, tmp_path / 'f.json')}"
    judge = load_judge(name, base)
    assert isinstance(judge, CalibratedJudge)
    assert (judge.version, judge.threshold) == (f"{before.version}@0.999", 0.999)
    assert [v.flagged for v in judge_pairs(judge, pairs)] == [False, False]
    ensembles = [load_judge(f"any({one}, keyword)", base, allow_comparison=True) for one in (name, trained)]
    assert [v.flagged for v in judge_pairs(ensembles[0], pairs)] == [False, True]
    assert ensembles[0].version != ensembles[1].version
    whole = calibrated(ensembles[0], 0.1, tmp_path / "whole.json")
    lower = load_judge(f"any({name}, keyword)@{whole}", base, allow_comparison=True)
    assert [v.flagged for v in judge_pairs(lower, pairs)] == [True, True]


def test_a_calibration_fits_one_judge_alone(base: Base, trained: Path, tmp_path: Path) -> None:
    file = calibrated(load_judge(trained, base), 0.9, tmp_path / "f.json")
    with pytest.raises(InvalidRequest, match="not for keyword-refusal"):
        load_judge(f"keyword@{file}", base, allow_comparison=True)
    probe = Probe.load(trained)
    replace(probe, bias=4.0).save(trained)
    with pytest.raises(InvalidRequest, match=f"calibrated for the judge embedded {probe.version}, not for embedded "):
        load_judge(f"{trained}@{file}", base)
    with pytest.raises(InvalidRequest, match="holds no calibration"):
        load_judge(f"{trained}@{tmp_path / 'none.json'}", base)


def test_a_service_is_not_asked_before_it_is_needed(base: Base) -> None:
    judge = load_judge("moderations:http://127.0.0.1:9/v1#guard", base)
    assert isinstance(judge, ModerationsJudge)
    assert judge.client.url == "http://127.0.0.1:9/v1/moderations"


def test_another_kind_of_model_is_refused(base: Base, tmp_path: Path) -> None:
    save_tiny_base(tmp_path / "chat")
    with pytest.raises(InvalidRequest, match="lacks weights"):
        load_judge(f"classifier:{tmp_path / 'chat'}", base)
    # An ordinary chat model has a template of its own, but its words are no verdicts: it fails when it is asked.
    guard = load_judge(f"llama-guard-3:{tmp_path / 'chat'}", base, guard_dtype="float32")
    assert guard.name == "llama-guard-3"
    with pytest.raises(InvalidRequest, match="names no judge"):
        load_judge("nobody", base)
