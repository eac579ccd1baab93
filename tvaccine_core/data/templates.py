"""Chat templates: rendering messages with the model's own, and a plain one for models that have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# "User: ...\nAssistant: ...<end>\n", after the beginning-of-text token if the tokenizer has one. The space
# before an answer belongs to the answer, where tokenizers expect it. Alignment, fine-tuning and scoring all
# see this one.
PLAIN_TEMPLATE = (
    r"{{ bos_token }}{% for message in messages %}"
    r"{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    r"{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n' }}"
    r"{% else %}{{ 'Assistant: ' + message['content'] + eos_token + '\n' }}{% endif %}"
    r"{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def ensure_template(tokenizer: Any) -> None:
    """Gives a tokenizer without a chat template the plain one; a model's own template is left as it is."""
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE


def render(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, ask: bool = False) -> str:
    """The text of a conversation; with `ask`, up to where the model's next answer begins.

    Raises jinja2.TemplateError if the template refuses the conversation (no system message allowed, for one).
    """
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=ask)
    return str(text)
