"""Atomic files, checkpoints and metrics."""

import json
import pickle
from pathlib import Path

import pytest

from tvaccine_core.training.checkpoints import (
    checkpoint_step,
    is_complete,
    latest_checkpoint,
    open_checkpoint,
    seal_checkpoint,
)
from tvaccine_core.training.files import write_json_atomic, write_text_atomic
from tvaccine_core.training.metrics import MetricsWriter, read_metrics
from tvaccine_core.training.stop import Stopped, never


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    write_json_atomic(path, {"b": 1, "a": "ü"})
    assert json.loads(path.read_text()) == {"a": "ü", "b": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomic(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        write_json_atomic(path, {"a": object()})
    assert json.loads(path.read_text())["b"] == 1
    write_text_atomic(path, "x")
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]


def test_only_complete_checkpoints_count_and_the_highest_step_wins(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "none") is None
    for step in (5, 20, 100):
        checkpoint = tmp_path / f"checkpoint-{step}"
        open_checkpoint(checkpoint)
        (checkpoint / "weights").write_text("w")
        if step != 100:
            seal_checkpoint(checkpoint)
    (tmp_path / "checkpoint-x").mkdir()
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert checkpoint_step(latest) == 20
    open_checkpoint(latest)
    assert not is_complete(latest)
    with pytest.raises(ValueError, match="checkpoint-N"):
        checkpoint_step(tmp_path)


def test_metrics_are_whole_lines_of_json(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "metrics.jsonl", stage="alignment", total=9)
    writer.write(1, {"loss": 2.5, "layers": 3})
    writer.write(2, {"loss": float("nan")})
    with writer.path.open("a") as file:
        file.write('{"half')
    lines = read_metrics(writer.path)
    assert [(x["stage"], x["step"], x["total"], x["loss"]) for x in lines] == [
        ("alignment", 1, 9, 2.5),
        ("alignment", 2, 9, None),
    ]
    assert lines[0]["layers"] == 3
    assert lines[0]["t"] > 1.7e9
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_a_resumed_run_starts_from_its_checkpoints_metrics(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "metrics.jsonl", stage="s", total=9)
    writer.restore_from(None)
    writer.write(1, {"loss": 1.0})
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    writer.keep_in(checkpoint)
    writer.write(2, {"loss": 2.0})
    elsewhere = MetricsWriter(tmp_path / "other" / "metrics.jsonl", stage="s", total=9)
    for again in (writer, elsewhere):
        again.restore_from(checkpoint)
        again.write(2, {"loss": 3.0})
        assert [line["loss"] for line in read_metrics(again.path)] == [1.0, 3.0]


def test_stopped_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(Stopped(7, Path("a/checkpoint-7"))))
    assert (again.step, again.checkpoint) == (7, Path("a/checkpoint-7"))
    assert "checkpoint-7" in str(again)
    assert not never()
