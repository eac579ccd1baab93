"""Splitting harmful rows by prompt, so that what is held out was not seen in other words either. Torch-free."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tvaccine_core.alignment.prompts import prompt_key
from tvaccine_core.data.rows import Row
from tvaccine_core.errors import InvalidRequest


def split_by_prompt(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(kept, held out), each in the order of the file; rows to the same prompt stay on one side.

    share: of the prompts, rounded, at least one on each side. Which ones is a pure function of the prompts and the
    seed. Raises InvalidRequest if there are fewer than two prompts.
    """
    keys = [prompt_key(row) for row in rows]
    prompts = sorted(set(keys))
    if len(prompts) < 2:
        raise InvalidRequest(
            "A part of the harmful rows is held out, and rows to one prompt are not parted: give rows to at least two "
            "different prompts.",
            param="harmful_file",
        )
    count = min(max(round(share * len(prompts)), 1), len(prompts) - 1)
    chosen = set(random.Random(seed).sample(prompts, count))
    kept = [row for row, key in zip(rows, keys, strict=True) if key not in chosen]
    return kept, [row for row, key in zip(rows, keys, strict=True) if key in chosen]
