"""Where the shipped demo data lies, and how files of prompts are read.

A file of prompts is JSON Lines in UTF-8: one object a line with ``prompt`` (a text) and, if wanted,
``category``. A chat row (``messages``) is read as its first user message, so that alignment files can be
compared with gate prompts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tvaccine_core.errors import InvalidRequest, NotFound

DEMO_FILES: tuple[str, ...] = (
    "alignment.jsonl",
    "probe.jsonl",
    "attack.jsonl",
    "gate_prompts.jsonl",
    "tuning_prompts.jsonl",
    "benign_prompts.jsonl",
    "tuning_benign_prompts.jsonl",
    "task_train.jsonl",
    "task_heldout.jsonl",
)
_DEMO_FOLDER = Path(__file__).resolve().parent / "demo"


@dataclass(frozen=True)
class Prompt:
    """One request to a model; ``category`` names the kind of harm, or is None."""

    prompt: str
    category: str | None = None


def demo_file(name: str) -> Path:
    """Return the path of a shipped demo file, named with or without ``.jsonl``.

    Raises NotFound, with the list of names, for any other name.
    """
    full = name if name.endswith(".jsonl") else f"{name}.jsonl"
    if full not in DEMO_FILES:
        raise NotFound(f"There is no demo file {name!r}. Choose one of: {', '.join(DEMO_FILES)}.", param="name")
    return _DEMO_FOLDER / full


def file_digest(path: Path) -> str:
    """Return "sha256:" and the hexadecimal SHA-256 of the file's bytes."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def read_prompts(path: Path) -> list[Prompt]:
    """Return the prompts of a JSON Lines file in file order, so that item i stands on line i + 1.

    Raises InvalidRequest, naming the file, the line and the field, at the first bad line; for
    an empty file; and for a file that cannot be read. Empty lines are allowed at the end only.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            f"{path.name} cannot be read ({error.strerror}). Give the path of a JSON Lines file.",
            param="prompts",
        ) from error
    lines = data.removeprefix(b"\xef\xbb\xbf").rstrip().split(b"\n")
    if lines == [b""]:
        raise InvalidRequest(f"{path.name} holds no prompts. Add one JSON object a line.", param="prompts")
    return [_read_line(path.name, number, line) for number, line in enumerate(lines, start=1)]


def _read_line(file: str, number: int, line: bytes) -> Prompt:
    row = _parse(file, number, line)
    field = "messages" if "messages" in row and "prompt" not in row else "prompt"
    text = _first_user_message(row["messages"]) if field == "messages" else row.get("prompt")
    if not isinstance(text, str) or not text.strip():
        _refuse(file, number, field, "must hold a text that is not empty")
    if not _encodable(text):
        _refuse(file, number, field, "holds half a surrogate pair; write whole characters")
    category = row.get("category")
    if category is not None and not isinstance(category, str):
        _refuse(file, number, "category", "must be a text; correct it or leave it out")
    return Prompt(text, category)


def _parse(file: str, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        _refuse(file, number, "", 'is not JSON in UTF-8; write one object a line, such as {"prompt": "..."}')
    if not isinstance(row, dict):
        _refuse(file, number, "", 'is not an object; write {"prompt": "..."}')
    return row


def _first_user_message(messages: object) -> object:
    """Return the content of the first message with the role "user", or None."""
    if not isinstance(messages, list):
        return None
    turns = (m for m in messages if isinstance(m, dict) and m.get("role") == "user")
    return next((m.get("content") for m in turns), None)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refuse(file: str, number: int, field: str, problem: str) -> NoReturn:
    where = f"{file}, line {number}" + (f", field {field!r}" if field else "")
    raise InvalidRequest(
        f"{where}: {problem}.",
        param=field or None,
        details=[{"file": file, "line": number, "field": field or None, "message": problem}],
    )
