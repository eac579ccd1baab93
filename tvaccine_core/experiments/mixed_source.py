"""Several sources of a grid taken as one: refusals beside harmless rows, say. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.conversations import ChatRow, first_prompt
from tvaccine_core.attacks.pools import one_per_question
from tvaccine_core.data.datasets import Prompt
from tvaccine_core.experiments.keys import several
from tvaccine_core.experiments.row_sources import RowSource, different_prompts, place_of, row_source


@dataclass(frozen=True)
class MixedSource:
    """All rows or prompts of `parts`, each part filtered and counted by itself; of one question the first counts."""

    path: str
    parts: tuple[RowSource, ...]

    def rows(self) -> list[ChatRow]:
        """As `RowSource.rows`."""
        found = one_per_question(row for part in self.parts for row in part.rows())
        return sorted(found, key=lambda row: place_of(first_prompt(row)))

    def prompts(self) -> list[Prompt]:
        """As `RowSource.prompts`."""
        found = different_prompts(prompt for part in self.parts for prompt in part.prompts())
        return sorted(found, key=lambda prompt: place_of(prompt.prompt))


Source = RowSource | MixedSource


def source(value: Any, path: str, folder: Path) -> Source:
    """One source as `row_source` describes it, or a list of them. Raises InvalidRequest."""
    if not isinstance(value, list | tuple):
        return row_source(value, path, folder)
    parts = enumerate(several(value, path))
    return MixedSource(path, tuple(row_source(part, f"{path}[{n}]", folder) for n, part in parts))
