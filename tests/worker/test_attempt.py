"""What an attempt takes over from the ones before it."""

import json
from pathlib import Path

from worker.attempt import Attempt, complete_checkpoints
from worker.metrics_tail import MetricsTail

ORDERS = {"run": "fine_tune", "training_file": Path("rows.jsonl"), "config": {"seed": 1}}


def checkpoint(stage_dir: Path, step: int, complete: bool = True, text: str = "weights") -> Path:
    path = stage_dir / "checkpoints" / f"checkpoint-{step}"
    path.mkdir(parents=True)
    orders = stage_dir / "orders.json"
    if not orders.exists():
        orders.write_text(json.dumps(ORDERS, default=str, sort_keys=True))
    (path / "adapter.safetensors").write_text(text)
    if complete:
        (path / "COMPLETE").write_text("")
    return path


def test_the_first_attempt_has_nothing_to_take_over(tmp_path: Path) -> None:
    found = Attempt(tmp_path, 1).begin("fine_tuning", ORDERS)
    assert not found.finished
    assert found.resume_from is None


def test_the_newest_complete_checkpoint_is_taken(tmp_path: Path) -> None:
    first = Attempt(tmp_path, 1).stage_dir("fine_tuning")
    checkpoint(first, 5)
    checkpoint(first, 10, text="ten")
    checkpoint(first, 15, complete=False)
    second = Attempt(tmp_path, 2)
    found = second.begin("fine_tuning", ORDERS)
    assert found.resume_from == second.stage_dir("fine_tuning") / "checkpoints/checkpoint-10"
    assert (found.resume_from / "adapter.safetensors").read_text() == "ten"


def test_checkpoints_are_compared_over_all_earlier_attempts(tmp_path: Path) -> None:
    checkpoint(Attempt(tmp_path, 1).stage_dir("align"), 100)
    checkpoint(Attempt(tmp_path, 2).stage_dir("align"), 20)  # started anew, died early
    checkpoint(Attempt(tmp_path, 10).stage_dir("align"), 100, text="tenth")
    checkpoint(Attempt(tmp_path, 12).stage_dir("align"), 200)  # a later attempt's: not ours to take
    found = Attempt(tmp_path, 11).begin("align", ORDERS)
    assert found.resume_from is not None
    assert (found.resume_from / "adapter.safetensors").read_text() == "tenth"


def test_a_finished_stage_is_taken_without_its_checkpoints(tmp_path: Path) -> None:
    first = Attempt(tmp_path, 1).stage_dir("fine_tuning")
    checkpoint(first, 5)
    (first / "combined").mkdir()
    (first / "combined/adapter_model.safetensors").write_text("all")
    (first / "report.json").write_text("{}")
    second = Attempt(tmp_path, 2)
    assert second.begin("fine_tuning", ORDERS).finished
    own = second.stage_dir("fine_tuning")
    assert (own / "combined/adapter_model.safetensors").read_text() == "all"
    assert not (own / "checkpoints").exists()


def test_what_is_taken_over_cannot_disturb_its_source(tmp_path: Path) -> None:
    first = Attempt(tmp_path, 1).stage_dir("fine_tuning")
    source = checkpoint(first, 5)
    found = Attempt(tmp_path, 2).begin("fine_tuning", ORDERS)
    assert found.resume_from is not None
    (found.resume_from / "COMPLETE").unlink()
    (found.resume_from / "adapter.safetensors").write_text("written in place")
    assert (source / "COMPLETE").exists()
    assert (source / "adapter.safetensors").read_text() == "weights"


def test_a_stage_with_other_orders_starts_anew(tmp_path: Path) -> None:
    first = Attempt(tmp_path, 1)
    first.begin("scoring", {"limit": 20})
    (first.stage_dir("scoring") / "report.json").write_text("{}")
    second = Attempt(tmp_path, 2)
    assert not second.begin("scoring", {"limit": 10}).finished
    assert not (second.stage_dir("scoring") / "report.json").exists()
    assert Attempt(tmp_path, 3).begin("scoring", {"limit": 20}).finished


def test_files_of_the_attempt_itself_are_no_difference(tmp_path: Path) -> None:
    first, second = Attempt(tmp_path, 1), Attempt(tmp_path, 2)
    first.begin("fine_tuning", {"training_file": first.root / "screening/kept.jsonl"})
    checkpoint(first.stage_dir("fine_tuning"), 5)
    found = second.begin("fine_tuning", {"training_file": second.root / "screening/kept.jsonl"})
    assert found.resume_from is not None


def test_clearing_removes_all_attempts(tmp_path: Path) -> None:
    job_dir = tmp_path / "ftjob-1"
    checkpoint(Attempt(job_dir, 1).stage_dir("fine_tuning"), 5)
    Attempt(job_dir, 2).clear()
    assert not job_dir.exists()
    Attempt(job_dir, 2).clear()


def test_names_that_are_no_checkpoints_are_passed_over(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    (tmp_path / "checkpoints/checkpoint-x").mkdir()
    (tmp_path / "checkpoints/.checkpoint-9.part").mkdir()
    assert [p.name for p in complete_checkpoints(tmp_path)] == ["checkpoint-5"]


def test_the_tail_hands_out_each_whole_line_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.read() == []
    path.write_text('{"step": 1}\n{"step": 2')
    assert tail.read() == [{"step": 1}]
    with path.open("a") as lines:
        lines.write("}\nnot json\n[3]\n")
    assert tail.read() == [{"step": 2}]
    assert tail.read() == []


def test_the_tail_starts_again_in_a_file_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    tail = MetricsTail(path)
    assert len(tail.read()) == 3
    beside = tmp_path / "beside"
    beside.write_text('{"step": 1}\n{"step": 22}\n{"step": 33}\n{"step": 4}\n')
    beside.replace(path)
    assert [row["step"] for row in tail.read()] == [1, 22, 33, 4]
