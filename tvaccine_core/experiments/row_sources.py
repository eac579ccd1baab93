"""Where the rows and prompts of a grid come from: a file, the shipped demo data, or a public data set by name.

A source in a grid is a path, a list of sources (`mixed_source`), or a mapping:

    file: FILE | demo: NAME | name: DATA SET   (part: train or eval, keep: all, safe or unsafe)
    where: {field: value or list of values}    only rows with these values (files only)
    longest: N                                 only rows whose answer has at most N characters
    between: [a, b]                            only prompts whose hash, as a share of 1, lies in [a, b)
    count: N                                   at most N, in the order of the prompts' hashes

`between` cuts a file into parts that share no prompt, the same parts in every grid: tune on one, report on another.
Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.conversations import ChatRow, first_prompt
from tvaccine_core.attacks.pools import matches, one_per_question, read_pool
from tvaccine_core.data.datasets import Prompt, demo_file, read_prompts
from tvaccine_core.data.named import named_prompts, named_rows
from tvaccine_core.data.overlap import normalise
from tvaccine_core.experiments.keys import mapping, number, refuse, several, text, under, whole

KEYS = ("file", "demo", "name", "part", "keep", "where", "longest", "between", "count")
MOST = 10**7


@dataclass(frozen=True)
class RowSource:
    """One source; `path` is its place in the grid, for messages. Exactly one of file, demo and name is set."""

    path: str
    file: Path | None = None
    demo: str | None = None
    name: str | None = None
    part: str | None = None
    keep: str = "all"
    where: Mapping[str, Any] = field(default_factory=dict)
    longest: int | None = None
    between: tuple[float, float] = (0.0, 1.0)
    count: int | None = None

    def rows(self) -> list[ChatRow]:
        """Chat rows, one a question, in the order of their prompts' hashes. Raises InvalidRequest naming the key."""
        with under(self.path):
            if self.name is not None:
                found = named_rows(self.name, self.part or "train", keep=self.keep)  # type: ignore[arg-type]
            else:
                found = read_pool(self._file, self.where, param="file")
        kept = [row for row in one_per_question(found) if self._takes(first_prompt(row), row)]
        return self._first(sorted(kept, key=lambda row: place_of(first_prompt(row))))

    def prompts(self) -> list[Prompt]:
        """Different prompts with their categories, in the order of their hashes. Raises as `rows`."""
        with under(self.path):
            if self.name is not None:
                found = named_prompts(self.name, self.part or "eval", keep=self.keep)  # type: ignore[arg-type]
            else:
                found = self._file_prompts()
        kept = [prompt for prompt in different_prompts(found) if self._takes(prompt.prompt, None)]
        return self._first(sorted(kept, key=lambda prompt: place_of(prompt.prompt)))

    @property
    def _file(self) -> Path:
        if self.demo is not None:
            return demo_file(self.demo)
        if self.file is None:
            raise ValueError("a source by name has no file")
        return self.file

    def _file_prompts(self) -> list[Prompt]:
        found = read_prompts(self._file)
        if not self.where:
            return found
        lines = self._file.read_bytes().split(b"\n")  # as `read_prompts`: item i stands on line i + 1
        return [prompt for prompt, line in zip(found, lines, strict=False) if matches(json.loads(line), self.where)]

    def _takes(self, prompt: str, row: ChatRow | None) -> bool:
        low, high = self.between
        if not low <= place_of(prompt) < high:
            return False
        return row is None or self.longest is None or len(row["messages"][-1]["content"]) <= self.longest

    def _first(self, found: list[Any]) -> list[Any]:
        if not found:
            refuse(self.path, "no row is left; widen `where`, `between` or `longest`.")
        return found[: self.count]


def different_prompts(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The first of each prompt."""
    found: dict[str, Prompt] = {}
    for prompt in prompts:
        found.setdefault(normalise(prompt.prompt), prompt)
    return list(found.values())


def place_of(prompt: str) -> float:
    """A prompt's place in [0, 1), from the SHA-256 of its words: independent of files and of other prompts."""
    digest = hashlib.sha256(normalise(prompt).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def row_source(value: Any, path: str, folder: Path) -> RowSource:
    """The source that a value of the grid describes; relative files lie in `folder`. Raises InvalidRequest."""
    given = {"file": value} if isinstance(value, str) else mapping(value, path, KEYS)
    kinds = [kind for kind in ("file", "demo", "name") if kind in given]
    if len(kinds) != 1:
        refuse(path, "needs one of file, demo and name: a path, a shipped file, or a public data set.")
    own: dict[str, Any] = {kinds[0]: text(given[kinds[0]], f"{path}.{kinds[0]}")}
    if "file" in own:
        own["file"] = _existing(folder, own["file"], f"{path}.file")
    if "demo" in own:
        with under(path):
            demo_file(own["demo"])
    for key in ("part", "keep"):
        if key in given:
            own[key] = text(given[key], f"{path}.{key}")
    if "where" in given:
        own["where"] = mapping(given["where"], f"{path}.where")
    for key in ("longest", "count"):
        if key in given:
            own[key] = whole(given[key], f"{path}.{key}", 1, MOST)
    if "between" in given:
        own["between"] = _between(given["between"], f"{path}.between")
    return RowSource(path, **own)


def _existing(folder: Path, name: str, path: str) -> Path:
    file = folder / Path(name).expanduser()
    if not file.is_file():
        refuse(path, f"there is no file {file}; correct the path, or data.folder.")
    return file


def _between(value: Any, path: str) -> tuple[float, float]:
    bounds = several(value, path)
    if len(bounds) != 2:
        refuse(path, "needs two numbers, such as [0.3, 1.0].")
    low, high = (number(bound, path, 0.0, 1.0) for bound in bounds)
    if not low < high:
        refuse(path, "the first number must be below the second.")
    return low, high
