"""What a row asks, and what it answers. Torch-free."""

from __future__ import annotations

from tvaccine_core.data.overlap import normalise
from tvaccine_core.data.rows import Message, Row

PromptKey = tuple[tuple[str, str], ...]


def context_of(row: Row) -> tuple[Message, ...]:
    """The messages before the last answer."""
    return row.messages[: _last_answer(row)]


def answer_of(row: Row) -> Message:
    """The last answer."""
    return row.messages[_last_answer(row)]


def prompt_key(row: Row) -> PromptKey:
    """The same for two rows that ask the same: roles and words before the last answer; case and punctuation are
    nothing.
    """
    return tuple((message.role, normalise(message.content)) for message in context_of(row))


def _last_answer(row: Row) -> int:
    return max(place for place, message in enumerate(row.messages) if message.role == "assistant")
