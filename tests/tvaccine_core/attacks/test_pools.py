"""Rows for attacks, read from files of several forms."""

import json
from pathlib import Path

import pytest

from tvaccine_core.attacks.conversations import exchange
from tvaccine_core.attacks.pools import one_per_question, read_pool, single_exchanges, without_prompts
from tvaccine_core.errors import InvalidRequest


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_upload_forms_and_the_forms_of_public_sets_become_chat_rows(tmp_path: Path) -> None:
    file = write(
        tmp_path / "rows.jsonl",
        exchange("a", "b"),
        {"prompt": "a", "response": "b", "source": "x"},
        {"prompt": "a", "refusal": "b"},
        {"prompt": "a", "completion": "b"},
        {"instruction": "a", "input": "", "output": "b", "label": "b"},
        "",
    )
    assert read_pool(file) == [exchange("a", "b")] * 5


def test_a_filter_keeps_rows_with_a_value_or_one_of_several(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "response": "r", "split": "train" if i < 2 else "test", "k": i} for i in range(4)]
    file = write(tmp_path / "rows.jsonl", *rows)
    assert len(read_pool(file, {"split": "train"})) == 2
    assert len(read_pool(file, {"k": [0, 3]})) == 2
    with pytest.raises(InvalidRequest, match=r'no row with \{"split": "dev"}') as error:
        read_pool(file, {"split": "dev"}, param="harmful")
    assert error.value.param == "harmful"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("[1]", "line 2: is no JSON object"),
        ("{", "line 2: is no JSON object"),
        ({"prompt": "a"}, "`completion` is missing"),
        ({"prompt": "a", "response": ""}, "empty"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, row: object, said: str) -> None:
    file = write(tmp_path / "rows.jsonl", exchange("a", "b"), row)
    with pytest.raises(InvalidRequest, match=said):
        read_pool(file)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_pool(tmp_path / "absent.jsonl")


def test_prompts_are_told_apart_by_their_words() -> None:
    rows = [exchange("What is it?", "1"), exchange("what is  IT", "2"), exchange("What was it?", "3")]
    assert [row["messages"][1]["content"] for row in one_per_question(rows)] == ["1", "3"]
    assert without_prompts(rows, ["WHAT is it!"]) == [rows[2]]
    later = {"messages": [*exchange("first", "a")["messages"], *exchange("What is it?", "b")["messages"]]}
    assert without_prompts([later], ["what is it"]) == []
    assert single_exchanges([later, rows[0]]) == [rows[0]]
