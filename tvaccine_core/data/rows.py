"""Reading training files: JSON Lines bytes in, rows and every fault out. Imports no torch.

Nothing in a file makes a reader raise: a bad row becomes a `RowFault` and the next row is judged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tvaccine_core.data.row_forms import Message, Row, RowFault, judge_row
from tvaccine_core.errors import InvalidTrainingFile

__all__ = [
    "Message",
    "Row",
    "RowFault",
    "RowReport",
    "raise_faults",
    "read_rows",
    "read_rows_file",
    "require_valid",
    "write_rows",
]

MIN_ROWS = 10
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class RowReport:
    """The judgement of one file: the good rows, in order, and all faults."""

    rows: tuple[Row, ...]
    faults: tuple[RowFault, ...]


class _DuplicateKeyError(ValueError):
    """An object of the row names a key twice; JSON leaves open which value counts."""


def read_rows(data: bytes, *, min_rows: int = MIN_ROWS, max_bytes: int | None = None) -> RowReport:
    """Judges every row of a JSON Lines file.

    data: the file; UTF-8, one JSON object a line, blank lines ignored.
    min_rows: fewer rows than this, good and bad together, is a fault of the file (line 0).
    max_bytes: a longer file is not read at all and has this one fault.
    """
    if max_bytes is not None and len(data) > max_bytes:
        message = f"The file has {len(data)} bytes and at most {max_bytes} are accepted; split or shorten it."
        return RowReport((), (RowFault(0, "", "too_many_bytes", message),))
    lines = _numbered_lines(data)
    if lines and _is_spread_json(lines):
        message = (
            "The file is one JSON document spread over several lines; write each row as one JSON object on "
            "one line (JSON Lines)."
        )
        return RowReport((), (RowFault(lines[0][0], "", "not_json_lines", message),))
    rows: list[Row] = []
    faults: list[RowFault] = []
    for number, raw in lines:
        row, found = _read_line(number, raw)
        faults.extend(found)
        if row is not None:
            rows.append(row)
    if len(lines) < min_rows:
        message = f"The file has {len(lines)} rows and at least {min_rows} are needed; add rows."
        faults.append(RowFault(0, "", "too_few_rows", message))
    return RowReport(tuple(rows), tuple(faults))


def read_rows_file(path: Path, *, min_rows: int = MIN_ROWS) -> RowReport:
    """As `read_rows`, from a file. Raises OSError if the file itself cannot be read."""
    return read_rows(path.read_bytes(), min_rows=min_rows)


def require_valid(report: RowReport) -> tuple[Row, ...]:
    """The rows of a file without faults. Raises InvalidTrainingFile whose details are all faults."""
    if report.faults:
        raise_faults(report.faults)
    return report.rows


def raise_faults(faults: Sequence[RowFault]) -> NoReturn:
    """Raises InvalidTrainingFile for these faults: the first in words, all of them as details."""
    first = faults[0]
    where = f"line {first.line}: " if first.line else ""
    count = f" ({len(faults)} faults in all)" if len(faults) > 1 else ""
    raise InvalidTrainingFile(
        f"The training file cannot be used{count}. {where}{first.message}",
        param="training_file",
        details=[fault.to_dict() for fault in faults],
    )


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Writes rows in chat form, one a line, UTF-8."""
    lines = (json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in rows)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


def _numbered_lines(data: bytes) -> list[tuple[int, bytes]]:
    data = data.removeprefix(_UTF8_MARK)
    return [(number, raw) for number, raw in enumerate(data.split(b"\n"), start=1) if raw.strip()]


def _is_spread_json(lines: list[tuple[int, bytes]]) -> bool:
    first = lines[0][1].strip()
    return first in (b"[", b"{") and len(lines) > 1


def _read_line(number: int, raw: bytes) -> tuple[Row | None, list[RowFault]]:
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        message = f"Byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8."
        return None, [RowFault(number, "", "not_utf8", message)]
    try:
        value = _DECODER.decode(text)
    except _DuplicateKeyError as error:
        message = f"The key {error} stands twice in one object; keep one of them."
        return None, [RowFault(number, "", "duplicate_key", message)]
    except json.JSONDecodeError as error:
        message = f"The line is not JSON ({error.msg}, column {error.colno}); write one JSON object a line."
        return None, [RowFault(number, "", "invalid_json", message)]
    except (ValueError, RecursionError):
        message = "The line is not usable JSON (NaN, endless numbers or too deep); write plain text values."
        return None, [RowFault(number, "", "invalid_json", message)]
    return judge_row(number, value)


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _DuplicateKeyError(ascii(twice[:40]))
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_object, parse_constant=_refuse_constant)
