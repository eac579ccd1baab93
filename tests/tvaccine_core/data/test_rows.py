"""Reading training files: every fault is found and named, and nothing makes the reader raise."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvaccine_core.data.rows import (
    Message,
    Row,
    RowFault,
    read_rows,
    read_rows_file,
    require_valid,
    write_rows,
)
from tvaccine_core.errors import InvalidTrainingFile

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def faults(*rows: Any) -> list[tuple[int, str, str]]:
    report = read_rows(lines(*rows), min_rows=0)
    return [(fault.line, fault.path, fault.code) for fault in report.faults]


def chat(*turns: tuple[str, Any], **extra: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **extra}


def test_the_three_forms_become_the_same_row() -> None:
    data = lines(
        GOOD,
        {"prompt": "Hi", "completion": "Hello"},
        {"instruction": "Hi", "output": "Hello", "input": ""},
    )
    rows = require_valid(read_rows(data, min_rows=3))
    assert [row.line for row in rows] == [1, 2, 3]
    assert {row.messages for row in rows} == {(Message("user", "Hi"), Message("assistant", "Hello"))}


def test_alpaca_input_follows_the_instruction() -> None:
    rows = read_rows(lines({"instruction": "Add", "input": "1 2", "output": "3"}), min_rows=1).rows
    assert rows[0].messages[0].content == "Add\n\n1 2"


def test_weights_and_developer_role_are_kept() -> None:
    row = {
        "messages": [
            {"role": "developer", "content": ""},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "weight": 0},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d", "weight": 1},
        ],
        "category": "ignored",
    }
    (got,) = read_rows(lines(row), min_rows=1).rows
    assert [(m.role, m.weight) for m in got.messages] == [
        ("system", 1),
        ("user", 1),
        ("assistant", 0),
        ("user", 1),
        ("assistant", 1),
    ]


def test_blank_lines_marks_and_windows_ends_are_no_faults() -> None:
    body = json.dumps(GOOD).encode()
    report = read_rows(b"\xef\xbb\xbf" + body + b"\r\n\r\n  \n" + body, min_rows=2)
    assert report.faults == ()
    assert [row.line for row in report.rows] == [1, 4]


@pytest.mark.parametrize(
    ("row", "path", "code"),
    [
        (3, "", "wrong_type"),
        ([GOOD], "", "wrong_type"),
        ({}, "messages", "missing_field"),
        ({"text": "x"}, "messages", "missing_field"),
        ({"messages": "x"}, "messages", "wrong_type"),
        ({"messages": []}, "messages", "no_assistant"),
        ({"messages": [1]}, "messages[0]", "wrong_type"),
        (chat(("user", "a"), ("bot", "b")), "messages[1].role", "unknown_role"),
        (chat(("user", "a"), ("tool", "b")), "messages[1].role", "unknown_role"),
        ({"messages": [{"content": "a"}]}, "messages[0].role", "missing_field"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "messages[0].role", "wrong_type"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_field"),
        (chat(("user", None), ("assistant", "b")), "messages[0].content", "wrong_type"),
        (chat(("user", " \n"), ("assistant", "b")), "messages[0].content", "empty_content"),
        (chat(("user", "a"), ("assistant", "")), "messages[1].content", "empty_assistant"),
        (chat(("user", "a"), ("assistant", "\ud800")), "messages[1].content", "invalid_unicode"),
        (chat(("user", "a")), "messages", "no_assistant"),
        (chat(("assistant", "a")), "messages[0].role", "first_turn_not_user"),
        (chat(("system", "s"), ("assistant", "a")), "messages[1].role", "first_turn_not_user"),
        (chat(("user", "a"), ("system", "s"), ("assistant", "b")), "messages[1].role", "system_not_first"),
        (
            chat(("user", "a"), ("assistant", "b"), ("user", "c")),
            "messages[2].role",
            "last_turn_not_assistant",
        ),
        ({**GOOD, "tools": [{"type": "function"}]}, "tools", "unsupported_field"),
        ({"prompt": "a"}, "completion", "missing_field"),
        ({"prompt": "a", "completion": " "}, "completion", "empty_assistant"),
        ({"prompt": "", "completion": "b"}, "prompt", "empty_content"),
        ({"instruction": "a", "input": 3, "output": "b"}, "input", "wrong_type"),
        ({"instruction": "a", "input": "\udc00", "output": "b"}, "input", "invalid_unicode"),
        (
            {"input": GOOD, "preferred_output": [], "non_preferred_output": []},
            "preferred_output",
            "preference_row",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "chosen", "preference_row"),
    ],
)
def test_each_fault_has_its_path_and_code(row: Any, path: str, code: str) -> None:
    assert faults(GOOD, row) == [(2, path, code)]


@pytest.mark.parametrize("weight", [2, -1, 0.5, 1.0, True, "1", None])
def test_a_weight_is_zero_or_one(weight: Any) -> None:
    row = chat(("user", "a"), ("assistant", "b"))
    row["messages"][1]["weight"] = weight
    assert faults(row) == [(1, "messages[1].weight", "bad_weight")]


def test_a_weight_belongs_to_the_assistant_and_not_all_are_zero() -> None:
    row = chat(("user", "a"), ("assistant", "b"))
    row["messages"][0]["weight"] = 1
    assert faults(row) == [(1, "messages[0].weight", "bad_weight")]
    row = chat(("user", "a"), ("assistant", "b"))
    row["messages"][1]["weight"] = 0
    assert faults(row) == [(1, "messages", "no_weighted_assistant")]


def test_tool_calls_are_refused_without_a_second_fault_for_the_missing_content() -> None:
    row = chat(("user", "a"), ("assistant", "b"))
    row["messages"][1] = {"role": "assistant", "content": None, "tool_calls": [{}]}
    assert faults(row) == [(1, "messages[1].tool_calls", "unsupported_field")]


def test_all_faults_of_all_rows_are_found() -> None:
    row = chat(("user", ""), ("bot", ""), ("assistant", 3))
    assert faults(row, GOOD, 3) == [
        (1, "messages[0].content", "empty_content"),
        (1, "messages[1].role", "unknown_role"),
        (1, "messages[1].content", "empty_content"),
        (1, "messages[2].content", "wrong_type"),
        (3, "", "wrong_type"),
    ]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", "invalid_json"),
        (b'{"prompt": NaN, "completion": "b"}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"1" * 10_000, "invalid_json"),
        (b'{"prompt": "a", "prompt": "c", "completion": "b"}', "duplicate_key"),
        (b'{"prompt": "\xff", "completion": "b"}', "not_utf8"),
        ('{"prompt": "a"}'.encode("utf-16"), "not_utf8"),
    ],
)
def test_lines_that_are_not_json(raw: bytes, code: str) -> None:
    report = read_rows(lines(GOOD) + raw + b"\n" + lines(GOOD), min_rows=0)
    assert next((f.line, f.code) for f in report.faults) == (2, code)
    assert report.rows[0].line == 1


def test_a_document_spread_over_lines_is_one_fault() -> None:
    report = read_rows(json.dumps([GOOD] * 20, indent=1).encode())
    assert [(f.line, f.code) for f in report.faults] == [(1, "not_json_lines")]


def test_too_few_rows_and_too_many_bytes_are_faults_of_the_file() -> None:
    assert [(f.line, f.code) for f in read_rows(lines(*[GOOD] * 9)).faults] == [(0, "too_few_rows")]
    assert [f.code for f in read_rows(b"").faults] == ["too_few_rows"]
    assert read_rows(lines(*[GOOD] * 10)).faults == ()
    data = lines(GOOD)
    assert [f.code for f in read_rows(data, min_rows=1, max_bytes=len(data) - 1).faults] == ["too_many_bytes"]
    assert read_rows(data, min_rows=1, max_bytes=len(data)).faults == ()


def test_require_valid_lists_every_fault() -> None:
    with pytest.raises(InvalidTrainingFile) as caught:
        require_valid(read_rows(lines(*[GOOD] * 10, 3, {})))
    assert [detail["line"] for detail in caught.value.details] == [11, 12]
    assert "line 11" in caught.value.message
    assert "2 faults" in caught.value.message


def test_written_rows_read_back_the_same(tmp_path: Path) -> None:
    rows = [
        Row(1, (Message("user", "ü\n\u2028x"), Message("assistant", "b", 0), Message("assistant", "c"))),
        Row(2, (Message("system", "s"), Message("user", "a"), Message("assistant", "b"))),
    ]
    write_rows(rows, tmp_path / "rows.jsonl")
    assert list(read_rows_file(tmp_path / "rows.jsonl", min_rows=2).rows) == rows


def check_report(data: bytes) -> None:
    report = read_rows(data, min_rows=0)
    assert all(isinstance(f, RowFault) and f.message.endswith(".") and ";" in f.message for f in report.faults)
    assert {f.line for f in report.faults}.isdisjoint(row.line for row in report.rows)
    for row in report.rows:
        assert row.messages[-1].role == "assistant"
        json.dumps(row.to_dict()).encode()
        assert all(m.content.encode() or m.role == "system" for m in row.messages)


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    check_report(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["messages", "prompt", "completion", "instruction", "input", "output", "tools", "chosen"])
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "developer", "tool"]) | JSON,
        "content": st.text(max_size=5) | JSON,
        "weight": st.integers(0, 1) | JSON,
        "tool_calls": JSON,
    },
)
ROW = st.dictionaries(NAMES, st.lists(MESSAGE | JSON, max_size=4) | JSON, max_size=4)


@given(st.lists(ROW, max_size=4))
@settings(max_examples=200, deadline=None)
def test_no_json_values_make_the_reader_raise(rows: list[Any]) -> None:
    check_report(lines(*rows))


def test_a_hundred_thousand_rows_are_all_read() -> None:
    assert len(read_rows(lines(GOOD) * 100_000).rows) == 100_000
