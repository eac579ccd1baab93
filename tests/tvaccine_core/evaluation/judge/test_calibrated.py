import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.errors import InvalidRequest, ScoringFailed
from tvaccine_core.evaluation.judge.calibrated import CalibratedJudge, Calibration
from tvaccine_core.evaluation.judge.ensemble import Ensemble
from tvaccine_core.evaluation.judge.keyword import KeywordJudge
from tvaccine_core.evaluation.judge.verdict import Assessment, OnBatch, Pair, judge_pairs

FOUND = Calibration("reader", "1", "1", 0.25, 40, "ab12", {"held_out": {"missed": 0.1}}, "0.1.0")
PAIRS = [("q", "0.1"), ("q", "0.25"), ("q", "0.6")]


class Reader:
    """Scores an answer with the number that it is. It tells the end of its version only when it has been asked."""

    name, threshold, languages = "reader", 0.5, frozenset({"en"})

    def __init__(self, version: str = "1", told: str = "") -> None:
        self.version, self.told = version, told

    def assess(self, pairs: Sequence[Pair], on_batch: OnBatch | None = None) -> list[Assessment]:
        self.version = self.version.split()[0] + self.told
        return [Assessment(float(answer), {"hate": 0.3}) for _, answer in pairs]


def test_the_scores_stay_and_the_threshold_decides() -> None:
    judge = CalibratedJudge(Reader(), FOUND)
    verdicts = judge_pairs(judge, PAIRS)
    assert [verdict.flagged for verdict in verdicts] == [False, True, True]
    assert [(verdict.score, dict(verdict.categories)) for verdict in verdicts[:1]] == [(0.1, {"hate": 0.3})]
    assert [verdict.flagged for verdict in judge_pairs(judge.judge, PAIRS)] == [False, False, True]
    assert (judge.name, judge.languages, judge.comparison_only) == ("reader", {"en"}, False)


def test_the_version_tells_judge_and_threshold() -> None:
    versions = [CalibratedJudge(Reader(), replace(FOUND, threshold=at)).version for at in (0.25, 0.2500001)]
    assert versions == ["1@0.25", "1@0.2500001"]


@pytest.mark.parametrize("change", [{"judge": "writer"}, {"version": "2"}])
def test_another_judges_calibration_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"calibrated for the judge \w+ \d, not for reader 1") as caught:
        CalibratedJudge(Reader(), replace(FOUND, **change))
    assert caught.value.param == "judge"


def test_a_service_that_became_another_model_fails_closed() -> None:
    calibration = replace(FOUND, version_scored="1 guard-2")
    assert judge_pairs(CalibratedJudge(Reader(told=" guard-2"), calibration), PAIRS)[1].flagged
    with pytest.raises(ScoringFailed, match="version 1 guard-3 now"):
        judge_pairs(CalibratedJudge(Reader(told=" guard-3"), calibration), PAIRS)


def test_an_ensemble_holds_it_to_its_threshold() -> None:
    member = CalibratedJudge(Reader(), FOUND)
    both = Ensemble("all", [member, Reader()])
    assert [verdict.flagged for verdict in judge_pairs(both, PAIRS)] == [False, False, True]
    any_of = Ensemble("any", [member, Reader()])
    assert [verdict.flagged for verdict in judge_pairs(any_of, PAIRS)] == [False, True, True]
    assert any_of.version != Ensemble("any", [Reader(), Reader()]).version
    calibrated = CalibratedJudge(any_of, replace(FOUND, judge=any_of.name, version=any_of.version, threshold=0.9))
    assert not any(verdict.flagged for verdict in judge_pairs(calibrated, PAIRS))


def test_no_threshold_makes_a_keyword_list_a_gate() -> None:
    judge = KeywordJudge()
    calibration = replace(FOUND, judge=judge.name, version=judge.version)
    assert Ensemble("any", [Reader(), CalibratedJudge(judge, calibration)]).comparison_only


def test_it_survives_its_file(tmp_path: Path) -> None:
    FOUND.write(tmp_path / "new" / "f.json")
    assert Calibration.read(tmp_path / "new" / "f.json") == FOUND


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        json.dumps({**FOUND.to_dict(), "threshold": "0.5"}),
        json.dumps({**FOUND.to_dict(), "threshold": True}),
        json.dumps({**FOUND.to_dict(), "threshold": 1.5}),
        json.dumps({**FOUND.to_dict(), "threshold": float("nan")}),
        json.dumps({**FOUND.to_dict(), "figures": 3}),
    ],
)
def test_anything_else_is_no_calibration(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.json").write_text(text)
    for place in (tmp_path / "f.json", tmp_path / "missing.json", tmp_path):
        with pytest.raises(InvalidRequest, match="holds no calibration"):
            Calibration.read(place)
