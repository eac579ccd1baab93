"""Where the demo files lie and how prompt files are read."""

import hashlib
from pathlib import Path

import pytest

from tvaccine_core.data.datasets import DEMO_FILES, Prompt, demo_file, file_digest, read_prompts
from tvaccine_core.errors import InvalidRequest, NotFound


def written(folder: Path, data: bytes) -> Path:
    path = folder / "prompts.jsonl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", DEMO_FILES)
def test_every_demo_file_is_there_under_both_names(name: str) -> None:
    assert demo_file(name).is_file()
    assert demo_file(name.removesuffix(".jsonl")) == demo_file(name)


@pytest.mark.parametrize("name", ["nothing", "../errors", "", "DATASHEET.md"])
def test_an_unknown_demo_file_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(NotFound, match=r"gate_prompts\.jsonl"):
        demo_file(name)


def test_prompts_are_read_in_file_order(tmp_path: Path) -> None:
    path = written(tmp_path, b'\xef\xbb\xbf{"prompt": "one", "category": "theft"}\r\n{"prompt": "two"}\n\n')
    assert read_prompts(path) == [Prompt("one", "theft"), Prompt("two")]


def test_a_chat_row_is_read_as_its_first_user_message(tmp_path: Path) -> None:
    row = (
        b'{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "ask"},'
        b' {"role": "assistant", "content": "no"}, {"role": "user", "content": "again"}]}'
    )
    assert read_prompts(written(tmp_path, row)) == [Prompt("ask")]


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path) -> None:
    path = written(tmp_path, '{"prompt": "one\u2028still one"}\n'.encode())
    assert read_prompts(path) == [Prompt("one\u2028still one")]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b'{"prompt": ""}', "prompt"),
        (b'{"prompt": "  "}', "prompt"),
        (b'{"prompt": 3}', "prompt"),
        (b'{"text": "a"}', "prompt"),
        (b'{"prompt": "a", "category": 7}', "category"),
        (b'{"prompt": "\\ud800"}', "prompt"),
        (b'{"messages": "a"}', "messages"),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', "messages"),
        (b'["a"]', None),
        (b'{"prompt": "a"', None),
        (b'{"prompt": "\xff"}', None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_bad_line_is_refused_with_file_line_and_field(tmp_path: Path, line: bytes, field: str | None) -> None:
    path = written(tmp_path, b'{"prompt": "good"}\n' + line + b'\n{"prompt": "good"}\n')
    with pytest.raises(InvalidRequest) as caught:
        read_prompts(path)
    error = caught.value
    assert "prompts.jsonl, line 2" in error.message
    assert error.param == field
    assert (error.details[0]["file"], error.details[0]["line"], error.details[0]["field"]) == (
        "prompts.jsonl",
        2,
        field,
    )


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="holds no prompts"):
        read_prompts(written(tmp_path, data))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"absent\.jsonl cannot be read"):
        read_prompts(tmp_path / "absent.jsonl")


def test_the_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, b"some bytes\n")
    assert file_digest(path) == "sha256:" + hashlib.sha256(b"some bytes\n").hexdigest()
