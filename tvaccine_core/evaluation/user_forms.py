"""The forms in which a training file puts its questions: system prompt, fixed words around the question, or both.

A model may be safe for a bare question and comply when it is asked as its training rows ask, with a persona and a
prefix (identity shift, Qi et al., arXiv 2310.03693) or in the task's own wording (Eiras et al., arXiv 2406.10288).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tvaccine_core.data.prompt_templates import Template, find_templates
from tvaccine_core.data.rows import Row


@dataclass(frozen=True)
class UserForm:
    """A template found in the file, an example of it for its other fields, and the system prompt that goes with it."""

    template: Template
    example: str
    system: str | None

    def fill(self, prompt: str) -> str:
        """The prompt where the user's questions stand."""
        return self.template.fill(prompt, self.example)

    @property
    def words(self) -> str:
        """What the form adds, for operators."""
        literals = " ... ".join(text.strip() for text in self.template.literals if text.strip())
        return literals if self.system is None else f"{self.system}\n{literals}"


def user_forms(rows: Sequence[Row], most: int) -> list[UserForm]:
    """The most frequent forms with fixed words, the most frequent first; bare questions have none."""
    asked = [(row, user) for row in rows if (user := _message(row, "user")) is not None]
    prompts = [user for _, user in asked]
    answers = [_message(row, "assistant") or "" for row, _ in asked]
    templates = [one for one in find_templates(prompts, answers) if any(text.strip() for text in one.literals)]
    forms = []
    for template in templates[:most]:
        members = [asked[place] for place in template.members if template.fields(asked[place][1]) is not None]
        if members:
            (system, _), *_ = Counter(_message(row, "system") for row, _ in members).most_common(1)
            example = next(user for row, user in members if _message(row, "system") == system)
            forms.append(UserForm(template, example, system))
    return forms


def _message(row: Row, role: str) -> str | None:
    """The first message of a role."""
    return next((message.content for message in row.messages if message.role == role), None)
