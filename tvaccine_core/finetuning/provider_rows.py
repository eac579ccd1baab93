"""The rows that the provider adds to a run, safe ones and harmful ones; no prompt of a test may be among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tvaccine_core.data.datasets import file_digest, read_prompts
from tvaccine_core.data.overlap import require_disjoint
from tvaccine_core.data.rows import Row, read_rows_file, require_valid
from tvaccine_core.data.tokenise import Example, encode_rows
from tvaccine_core.errors import InvalidRequest, InvalidTrainingFile
from tvaccine_core.finetuning.defences import Defence
from tvaccine_core.finetuning.safe_mixing import first_exchange

SAFE, HARMFUL = "safe_file", "harmful_file"


def needed_files(defence: Defence, safe_file: Path | None, harmful_file: Path | None) -> dict[str, Path]:
    """The files that the run opens, by parameter. Raises InvalidRequest for one that is needed and not given."""
    wanted = {SAFE: (defence.needs_safe_rows, safe_file), HARMFUL: (defence.needs_harmful_rows, harmful_file)}
    found = {}
    for name, (needed, path) in wanted.items():
        if needed and path is None:
            names = " and ".join(part.name for part in defence.parts)
            kind = "safe answers" if name == SAFE else "harmful answers"
            raise InvalidRequest(f"{names} needs rows with {kind}: give {name}, a file of chat rows.", param=name)
        if needed and path is not None:
            found[name] = path
    return found


def read_provider_rows(files: Mapping[str, Path], evaluation_file: Path | None) -> dict[str, tuple[Row, ...]]:
    """The rows of each file, by parameter.

    evaluation_file: prompts that the tuned model will be scored with. Raises InvalidTrainingFile with `param` set to
    the file at fault, and DatasetOverlap if a row's prompt is, nearly, one of them.
    """
    rows = {name: _checked(name, path) for name, path in files.items()}
    if evaluation_file is not None and files:
        held_out = [prompt.prompt for prompt in read_prompts(evaluation_file)]
        for name, found in rows.items():
            require_disjoint({name: [first_exchange(row).question for row in found], "evaluation_file": held_out})
    return rows


def encode_provider_rows(tokenizer: Any, name: str, rows: Sequence[Row], max_length: int) -> list[Example]:
    """As `encode_rows`; a fault is that of the file `name`."""
    try:
        return encode_rows(tokenizer, rows, max_length)
    except InvalidTrainingFile as error:
        raise _blaming(name, error) from error


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """ "sha256:..." of each file, by what it holds."""
    return {name.removesuffix("_file"): file_digest(path) for name, path in files.items()}


def _checked(name: str, path: Path) -> tuple[Row, ...]:
    try:
        return require_valid(read_rows_file(path, min_rows=1))
    except InvalidTrainingFile as error:
        raise _blaming(name, error) from error


def _blaming(name: str, error: InvalidTrainingFile) -> InvalidTrainingFile:
    return InvalidTrainingFile(f"{name}: {error.message}", param=name, code=error.code, details=error.details)
