import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.tvaccine_core.evaluation.judge.test_calibrated import Reader
from tvaccine_core.errors import InvalidRequest, ScoringFailed
from tvaccine_core.evaluation.judge.calibrated import CalibratedJudge, Calibration
from tvaccine_core.evaluation.judge.calibration import calibrate_judge, calibration_rows
from tvaccine_core.evaluation.judge.rows import JudgeRow

HARMLESS, HARMFUL = (0.05, 0.1), (0.2, 0.9)


def row(prompt: str, score: float, label: int, split: str = "test") -> JudgeRow:
    return JudgeRow(prompt, repr(score), label, "mine", split)


ROWS = [row(f"p{i}", (HARMLESS, HARMFUL)[i % 2][i // 2 % 2], i % 2) for i in range(80)]


def saved(rows: Sequence[JudgeRow], path: Path) -> Path:
    lines = [{"prompt": r.prompt, "answer": r.answer, "label": r.label, "split": r.split} for r in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_threshold_lies_between_the_labels() -> None:
    told: list[str] = []
    found = calibrate_judge(Reader(), ROWS, "ab12", told.append)
    # Half way between the log odds of 0.1 (1 to 9) and of 0.2 (1 to 4): 1 to 6.
    assert found.threshold == pytest.approx(1 / 7)
    assert found.figures == {
        "held_out": {"n": 80, "false_alarms": 0.0, "missed": 0.0, "balanced_accuracy": 1.0},
        "present": {"threshold": 0.5, "n": 80, "false_alarms": 0.0, "missed": 0.5, "balanced_accuracy": 0.75},
    }
    assert (found.judge, found.version, found.rows, found.data_sha256) == ("reader", "1", 80, "ab12")
    assert found.made_with
    assert told[0] == "Judging 80 rows."


def test_a_prompt_is_never_judged_by_a_threshold_that_it_helped_to_choose() -> None:
    # One prompt alone pulls the threshold below 0.3, and both its rows are missed by that of the other prompts, 0.5.
    rows = [row(f"p{i}", 0.9 if i % 2 else 0.1, i % 2) for i in range(38)] + [row("odd", 0.3, 1), row("odd", 0.3, 1)]
    found = calibrate_judge(Reader(), rows, "")
    assert 0.1 < found.threshold < 0.3
    assert found.figures["held_out"]["missed"] == round(2 / 21, 4)
    assert found.figures["held_out"]["false_alarms"] == 0


def test_a_weak_judge_looks_no_better_than_it_is() -> None:
    draw, seen, told = np.random.default_rng(0), [], []
    for _ in range(20):
        labels = draw.permutation(np.arange(60) % 2)
        scores = 0.85 * draw.random(60) + 0.1 * labels  # no threshold tells more than 56 % on new rows
        rows = [row(f"p{i}", float(scores[i]), int(labels[i])) for i in range(60)]
        found = calibrate_judge(Reader(), rows, "")
        flagged = scores >= found.threshold
        seen.append((flagged[labels == 1].mean() + 1 - flagged[labels == 0].mean()) / 2)
        told.append(found.figures["held_out"]["balanced_accuracy"])
    assert np.mean(seen) > 0.6
    assert np.mean(told) < 0.58


def test_a_calibrated_judge_is_calibrated_anew() -> None:
    first = Calibration("reader", "1", "1", 0.95, 1, "", {}, "")
    found = calibrate_judge(CalibratedJudge(Reader(), first), ROWS, "")
    assert found.threshold == pytest.approx(1 / 7)
    assert (found.figures["present"]["threshold"], found.figures["present"]["missed"]) == (0.95, 1.0)
    CalibratedJudge(Reader(), found)


def test_a_version_told_late_is_kept_beside_the_first() -> None:
    found = calibrate_judge(Reader(told=" guard-2"), ROWS, "")
    assert (found.version, found.version_scored) == ("1", "1 guard-2")


def test_a_judge_no_better_than_chance_has_no_threshold() -> None:
    upside_down = [row(r.prompt, float(r.answer), 1 - r.label) for r in ROWS]
    with pytest.raises(InvalidRequest, match="better than chance"):
        calibrate_judge(Reader(), upside_down, "")
    with pytest.raises(ScoringFailed):
        calibrate_judge(Reader(), [*ROWS, row("p", 1.5, 1)], "")


def test_training_rows_are_taken_if_there_are_any(tmp_path: Path) -> None:
    assert calibration_rows(saved(ROWS, tmp_path / "test.jsonl")) == [
        JudgeRow(r.prompt, r.answer, r.label, "unnamed", "test") for r in ROWS
    ]
    mixed = [*ROWS, *(row(f"t{i}", 0.5, i % 2, "train") for i in range(30))]
    assert {r.split for r in calibration_rows(saved(mixed, tmp_path / "mixed.jsonl"))} == {"train"}


def test_rows_that_tell_no_cost_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="missing label"):
        calibration_rows(saved([r for r in ROWS if r.label], tmp_path / "one.jsonl"))
    with pytest.raises(InvalidRequest, match="too few prompts"):
        calibration_rows(saved([row("p", 0.1 + i / 10, i % 2) for i in range(8)], tmp_path / "same.jsonl"))
