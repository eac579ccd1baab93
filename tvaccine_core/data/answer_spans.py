"""Finding, in the text of a rendered conversation, the stretches that the model is to learn.

The templates' own assistant masks are missing or silently empty for many models. So where an answer begins
and ends is found by rendering what comes before it and what it ends, and checking that both really are
beginnings of the whole. An answer's end-of-turn token is learned, the line break that follows it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from tvaccine_core.data.row_forms import Row, RowFault
from tvaccine_core.data.templates import render

Turns = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """A row as text, and the stretches [start, end) of it that are learned, in characters, in order."""

    row: Row
    text: str
    spans: tuple[tuple[int, int], ...]


class FaultyRowError(Exception):
    """The model's chat template and the row do not go together."""

    def __init__(self, fault: RowFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class RowRenderer:
    """Renders rows with one tokenizer's chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        self._special = tuple(sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True))

    def render(self, row: Row) -> RenderedRow:
        """The row's text and spans.

        Raises FaultyRowError if the template refuses the row or re-writes an answer beyond recognition.
        """
        turns = [{"role": message.role, "content": message.content} for message in row.messages]
        learned = [i for i, message in enumerate(row.messages) if message.role == "assistant" and message.weight]
        try:
            text = render(self._tokenizer, turns)
            spans = [self._span(turns, place, text, row.line) for place in learned]
        except TemplateError as error:
            reason = f"The chat template refuses the row ({error}); change its messages' order or roles."
            raise FaultyRowError(RowFault(row.line, "messages", "template_refused", reason)) from error
        start, end = spans[-1]
        if end == len(text.rstrip()) and not text[start:end].endswith(self._special):
            # The template marks no end of turn; without one the model would not learn to stop.
            text = text[:end] + self._tokenizer.eos_token
            spans[-1] = start, len(text)
        return RenderedRow(row, text, tuple(spans))

    def _span(self, turns: Turns, place: int, text: str, line: int) -> tuple[int, int]:
        before = render(self._tokenizer, turns[:place], ask=True)
        end = self._end(turns, place, text, len(before)) if text.startswith(before) else None
        if end is None:
            path = f"messages[{place}].content"
            reason = (
                f"The chat template re-writes `{path}`, so that it is unclear what to learn; remove what the "
                "template cuts or changes, or split the row before it."
            )
            raise FaultyRowError(RowFault(line, path, "template_unstable", reason))
        return len(before), end

    def _end(self, turns: Turns, place: int, text: str, start: int) -> int | None:
        upto = render(self._tokenizer, turns[: place + 1])
        if text.startswith(upto):
            return max(start, len(upto.rstrip()))
        # Some templates write the last answer of a conversation otherwise than earlier ones (an empty thought
        # before it, say): then the answer itself is looked for, and the special token right behind it.
        content = turns[place]["content"].strip()
        found = text.find(content, start)
        if found < 0:
            return None
        end = found + len(content)
        rest = text[end:].lstrip()
        token = next((special for special in self._special if rest.startswith(special)), "")
        return len(text) - len(rest) + len(token) if token else end
