import itertools
import json
from pathlib import Path
from typing import Any

from tvaccine_core.evaluation.report.training import training_record


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_loss_by_step(tmp_path: Path) -> None:
    rows = [{"step": 2, "loss": 1.5}, {"step": 2, "valid_loss": 9.0}, {"step": 1, "loss": 2}, {"step": 3, "loss": None}]
    assert training_record(written(tmp_path / "m.jsonl", rows)) == {"loss": [[1, 2.0], [2, 1.5]]}


def test_a_step_taken_again_counts_once(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 7.0}, {"step": 2, "loss": 1.0}]
    assert training_record(written(tmp_path / "m.jsonl", rows)) == {"loss": [[1, 2.0], [2, 1.0]]}


def test_steps_on_the_providers_rows_are_left_out(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 9.0, "alignment_state": 1}, {"step": 2, "loss": 1.0, "alignment_state": 0}]
    assert training_record(written(tmp_path / "m.jsonl", rows)) == {"loss": [[2, 1.0]]}


def test_long_runs_are_thinned_to_their_last_step(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 1.0} for step in range(1, 1002)]
    record = training_record(written(tmp_path / "m.jsonl", rows), most=100)
    assert record is not None
    steps = [step for step, _ in record["loss"]]
    assert len(steps) <= 100
    assert steps[-1] == 1001
    assert {later - earlier for earlier, later in itertools.pairwise(steps)} == {11}


def test_no_training_no_record(tmp_path: Path) -> None:
    assert training_record(tmp_path / "absent.jsonl") is None
    assert training_record(written(tmp_path / "m.jsonl", [{"step": 1}])) is None
