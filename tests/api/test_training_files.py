"""Rows that cannot be trained on are refused at upload: every fault of every row, and nothing is kept."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from api.context import Context

Rows = Callable[[int], list[dict[str, Any]]]
FAULTY: list[tuple[Any, str]] = [
    ("{broken", ""),
    ("[1, 2]", ""),
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    (
        {"messages": [{"role": "robot", "content": "x"}, {"role": "assistant", "content": "y"}]},
        "messages[0].role",
    ),
    (
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}]},
        "messages[1].content",
    ),
    ({"messages": [{"role": "user", "content": "x"}]}, "messages"),
    (
        {"messages": [{"role": "user", "content": 7}, {"role": "assistant", "content": "y"}]},
        "messages[0].content",
    ),
    ({"question": "x", "reply": "y"}, ""),
]


def as_bytes(rows: list[Any]) -> bytes:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()


def refusal(client: openai.OpenAI, data: bytes) -> dict[str, Any]:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=("train.jsonl", data), purpose="fine-tune")
    error = refused.value
    assert (error.code, error.type) == ("invalid_training_file", "invalid_request_error")
    assert isinstance(error.body, dict)
    return error.body


def test_every_faulty_row_is_named_with_its_field_and_remedy(
    alice: openai.OpenAI, rows: Rows, context: Context
) -> None:
    good = rows(12)
    body = refusal(alice, as_bytes([*good, *(row for row, _ in FAULTY)]))
    details = body["details"]
    assert {fault["line"] for fault in details} == set(range(13, 13 + len(FAULTY)))
    for number, (_, path) in enumerate(FAULTY, start=13):
        faults = [fault for fault in details if fault["line"] == number]
        assert any(fault["path"].startswith(path) for fault in faults), (number, path, faults)
        for fault in faults:
            assert set(fault) == {"line", "path", "code", "message"}
            assert fault["code"]
            assert len(fault["message"]) > 20
    assert alice.files.list().data == []
    assert list((context.settings.artefacts_dir / "uploads").iterdir()) == []


def test_too_few_rows_are_refused(alice: openai.OpenAI, rows: Rows) -> None:
    body = refusal(alice, as_bytes(rows(9)))
    assert [fault["code"] for fault in body["details"]] == ["too_few_rows"]
    assert "10" in body["message"]


def test_text_that_is_not_utf8_is_refused(alice: openai.OpenAI, rows: Rows) -> None:
    body = refusal(alice, as_bytes(rows(10)) + b'{"prompt": "\xff", "completion": "x"}\n')
    assert [(fault["line"], fault["code"]) for fault in body["details"]] == [(11, "not_utf8")]


def test_all_row_forms_are_accepted(alice: openai.OpenAI, rows: Rows) -> None:
    forms = [
        {"prompt": "Two and two?", "completion": "Four."},
        {"instruction": "Add.", "input": "2, 2", "output": "4"},
        {"instruction": "Say hello.", "output": "Hello."},
    ]
    file = alice.files.create(file=("forms.jsonl", as_bytes([*rows(10), *forms])), purpose="fine-tune")
    assert file.model_extra is not None
    assert file.model_extra["rows"] == 13


def test_a_file_over_the_limit_is_413_and_nothing_is_kept(alice: openai.OpenAI, rows: Rows, context: Context) -> None:
    limit = context.settings.max_upload_bytes
    # Just over the limit of the file, and far over the limit of the whole body.
    for size in (limit + 1, limit * 3):
        with pytest.raises(openai.APIStatusError) as refused:
            alice.files.create(file=("large.jsonl", b"x" * size), purpose="fine-tune")
        assert refused.value.status_code == 413
        assert refused.value.code == "payload_too_large"
        assert str(limit) in refused.value.message
        assert "smaller" in refused.value.message
    assert alice.files.list().data == []
    assert list((context.settings.artefacts_dir / "uploads").iterdir()) == []
