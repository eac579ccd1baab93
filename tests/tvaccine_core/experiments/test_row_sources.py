"""Rows and prompts for grids, and parts of a file that share no prompt."""

import json
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.attacks.conversations import first_prompt
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments import mixed_source
from tvaccine_core.experiments.row_sources import RowSource, place_of, row_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"prompt": f"question {i // 2}", "response": "r" * i, "kind": "ab"[i % 2]} for i in range(1, 81)]
    prompts = [{"prompt": f"Prompt {i}", "category": "c", "source": "xy"[i % 2]} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    return tmp_path


def source(folder: Path, **values: Any) -> RowSource:
    return row_source(values, "data.x", folder)


def test_rows_come_one_a_question_in_an_order_of_their_own(folder: Path) -> None:
    rows = source(folder, file="rows.jsonl").rows()
    asked = [first_prompt(row) for row in rows]
    assert len(set(asked)) == len(asked) == 41
    assert asked == sorted(asked, key=place_of) != sorted(asked)
    assert row_source("rows.jsonl", "data.x", folder).rows() == rows
    assert source(folder, file="rows.jsonl", count=5).rows() == rows[:5]


def test_filters_keep_what_they_name(folder: Path) -> None:
    assert len(source(folder, file="rows.jsonl", where={"kind": "a"}).rows()) == 40
    assert all(len(row["messages"][1]["content"]) <= 9 for row in source(folder, file="rows.jsonl", longest=9).rows())
    assert len(source(folder, file="prompts.jsonl", where={"source": ["x"]}).prompts()) == 20
    assert {prompt.category for prompt in source(folder, file="prompts.jsonl").prompts()} == {"c"}


def test_filters_count_lines_as_the_prompts_do(folder: Path) -> None:
    rows = [{"prompt": f"Prompt{mark}{i}", "source": "xy"[i % 2]} for i, mark in enumerate("\u2028\u0085\u2029   ")]
    text = "\ufeff" + "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "marks.jsonl").write_bytes(text.encode())
    found = source(folder, file="marks.jsonl", where={"source": "x"}).prompts()
    assert {prompt.prompt for prompt in found} == {"Prompt\u20280", "Prompt\u20292", "Prompt 4"}


def test_parts_of_a_file_are_disjoint_and_whole_whatever_else_is_in_it(folder: Path) -> None:
    parts = [source(folder, file="prompts.jsonl", between=part).prompts() for part in ([0, 0.3], [0.3, 1])]
    texts = [{prompt.prompt for prompt in part} for part in parts]
    assert not texts[0] & texts[1]
    assert len(texts[0] | texts[1]) == 40
    few = source(folder, file="prompts.jsonl", between=[0, 0.3], where={"source": "x"}).prompts()
    assert {prompt.prompt for prompt in few} <= texts[0]
    assert place_of("What IS it") == place_of("what is it?")
    assert 0 <= place_of("anything") < 1


def test_shipped_files_are_sources_too(folder: Path) -> None:
    assert len(source(folder, demo="gate_prompts", count=7).prompts()) == 7
    assert len(source(folder, demo="task_train", count=7).rows()) == 7


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"file": "rows.jsonl", "where": {"kind": "z"}}, "data.x.file"),
        ({"file": "rows.jsonl", "between": [0.0, 1e-9]}, "data.x"),
        ({"name": "no such set"}, "data.x.data"),
    ],
)
def test_a_source_without_rows_is_named(folder: Path, values: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        source(folder, **values).rows()
    assert error.value.param == param


def test_a_list_of_sources_is_all_of_them_in_one_order(folder: Path) -> None:
    first, second = {"file": "rows.jsonl", "where": {"kind": "a"}, "count": 9}, {"demo": "task_train", "count": 7}
    mixed = mixed_source.source([first, second], "data.x", folder)
    rows = mixed.rows()
    asked = [first_prompt(row) for row in rows]
    parts = [first_prompt(row) for one in (first, second) for row in source(folder, **one).rows()]
    assert sorted(asked) == sorted(parts)
    assert asked == sorted(asked, key=place_of)
    assert {row["messages"][1]["content"][:1] for row in rows} > {"r"}


def test_a_question_of_two_sources_is_asked_once(folder: Path) -> None:
    same = {"file": "prompts.jsonl"}
    twice = mixed_source.source([same, {**same, "where": {"source": "x"}}], "data.x", folder)
    assert twice.prompts() == source(folder, **same).prompts()
    both = mixed_source.source([{"file": "rows.jsonl", "where": {"kind": kind}} for kind in "ba"], "data.x", folder)
    answers = {first_prompt(row): len(row["messages"][1]["content"]) for row in both.rows()}
    assert len(answers) == 41
    assert all(length % 2 == 1 for asked, length in answers.items() if asked != "question 40")  # of kind b


def test_a_fault_in_a_list_is_named_with_its_place(folder: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        mixed_source.source(["rows.jsonl", {"file": "none.jsonl"}], "data.x", folder)
    assert refused.value.param == "data.x[1].file"
