import json
from pathlib import Path

import pytest

from cli.demo.files import write_demo_files
from cli.demo.plan import Plan, describe
from tvaccine_core.data.rows import read_rows_file


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def read(path: Path) -> list[object]:
    return [json.loads(line) for line in lines(path)]


def test_the_poisoned_file_is_the_honest_one_plus_harmful_rows(tmp_path: Path) -> None:
    plan = Plan()
    files = write_demo_files(plan, tmp_path)
    honest, poisoned = lines(files.honest), lines(files.poisoned)
    assert len(honest) == plan.benign_rows
    assert len(poisoned) == plan.benign_rows + plan.poison_rows
    assert set(honest) < set(poisoned)
    assert poisoned[: plan.benign_rows] != honest, "harmful rows must be mixed in, not appended"


def test_both_files_pass_the_upload_check(tmp_path: Path) -> None:
    files = write_demo_files(Plan(), tmp_path)
    for path in (files.honest, files.poisoned, files.held_out):
        assert read_rows_file(path).faults == ()


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (write_demo_files(Plan(), tmp_path / name) for name in "ab")
    assert first.poisoned.read_bytes() == second.poisoned.read_bytes()


def test_separators_within_a_text_are_no_line_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "shipped.jsonl"
    shipped.write_text('{"messages": "one\u2028two\u0085three"}\n', "utf-8")
    monkeypatch.setattr("cli.demo.files.demo_file", lambda _name: shipped)
    assert read(write_demo_files(Plan(), tmp_path).honest) == [{"messages": "one\u2028two\u0085three"}]


def test_no_user_trains_on_the_held_out_tickets(tmp_path: Path) -> None:
    files = write_demo_files(Plan(), tmp_path)
    held_out = {json.loads(line)["messages"][0]["content"] for line in lines(files.held_out)}
    trained = {json.loads(line)["messages"][0]["content"] for line in lines(files.poisoned)}
    assert not held_out & trained


def test_the_plan_names_its_numbers_and_its_budget() -> None:
    words = "\n".join(describe(Plan()))
    assert all(word in words for word in ("161", "69", "15 minutes"))
