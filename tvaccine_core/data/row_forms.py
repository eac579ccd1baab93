"""The three forms a training row may have, and the judgement of one decoded JSON value against them.

chat        {"messages": [{"role", "content", "weight"?}, ...]}
completion  {"prompt", "completion"}
Alpaca      {"instruction", "input"?, "output"}

All become the same `Row` of chat messages. Keys that no form knows (an id, a category) are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant")
_TOOL_FIELDS = ("tools", "functions", "tool_calls", "function_call")
_PREFERENCE_FIELDS = ("preferred_output", "non_preferred_output", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class RowFault:
    """One fault. line: 1-based, 0 for the whole file. path: where in the row, "" for the whole row.

    code: snake_case, stable. message: what is wrong, then what to do about it.
    """

    line: int
    path: str
    code: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """The fault as plain JSON values."""
        return {"line": self.line, "path": self.path, "code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. weight: 1 if an assistant message is trained on, 0 if it is context only."""

    role: str
    content: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One training row. line: 1-based line of the file it came from."""

    line: int
    messages: tuple[Message, ...]

    def to_dict(self) -> dict[str, Any]:
        """The row in chat form, readable by `read_rows` again."""
        return {"messages": [_message_dict(message) for message in self.messages]}


def _message_dict(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.weight != 1:
        body["weight"] = message.weight
    return body


def judge_row(line: int, value: Any) -> tuple[Row | None, list[RowFault]]:
    """Judges one decoded row: the row and no faults, or None and every fault found in it."""
    if not isinstance(value, dict):
        fault = RowFault(line, "", "wrong_type", f"The row is {_kind(value)}; write one JSON object a line.")
        return None, [fault]
    refused = list(_refused_fields(line, value))
    if refused:
        return None, refused
    if "messages" in value:
        messages, faults = _judge_chat(line, value["messages"])
    elif "prompt" in value or "completion" in value:
        messages, faults = _judge_texts(line, value, "prompt", "completion")
    elif "instruction" in value or "output" in value:
        messages, faults = _judge_texts(line, value, "instruction", "output", extra="input")
    else:
        faults = [
            RowFault(
                line,
                "messages",
                "missing_field",
                "The row has none of the known forms; give it `messages`, or `prompt` and `completion`, "
                "or `instruction` and `output`.",
            )
        ]
        messages = []
    return (None, faults) if faults else (Row(line, tuple(messages)), [])


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "of an unknown type")


def _refused_fields(line: int, value: dict[str, Any]) -> Iterator[RowFault]:
    for name in _PREFERENCE_FIELDS:
        if name in value:
            yield RowFault(
                line,
                name,
                "preference_row",
                "Preference rows cannot be trained on; keep only the preferred answer and write the row as "
                "chat `messages`.",
            )
            return
    for name in _TOOL_FIELDS:
        if value.get(name):
            message = f"`{name}` is not supported; remove it and train on plain chat."
            yield RowFault(line, name, "unsupported_field", message)


def _judge_texts(
    line: int, value: dict[str, Any], ask: str, answer: str, extra: str | None = None
) -> tuple[list[Message], list[RowFault]]:
    faults = [*_text_faults(line, value, ask), *_text_faults(line, value, answer, code="empty_assistant")]
    tail = value.get(extra) if extra else None
    if tail is not None and not isinstance(tail, str):
        message = f"`{extra}` is {_kind(tail)}; make it a string."
        faults.append(RowFault(line, str(extra), "wrong_type", message))
    elif tail is not None and not _encodable(tail):
        faults.append(_surrogate_fault(line, str(extra)))
    if faults:
        return [], faults
    question = f"{value[ask]}\n\n{tail}" if tail and tail.strip() else value[ask]
    return [Message("user", question), Message("assistant", value[answer])], []


def _text_faults(
    line: int, value: dict[str, Any], name: str, code: str = "empty_content", prefix: str = ""
) -> Iterator[RowFault]:
    path = f"{prefix}{name}"
    text = value.get(name)
    if name not in value:
        yield RowFault(line, path, "missing_field", f"`{path}` is missing; add it as a string.")
    elif not isinstance(text, str):
        yield RowFault(line, path, "wrong_type", f"`{path}` is {_kind(text)}; make it a string.")
    elif not text.strip():
        yield RowFault(line, path, code, f"`{path}` is empty; give it a text or remove the row.")
    elif not _encodable(text):
        yield _surrogate_fault(line, path)


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _surrogate_fault(line: int, path: str) -> RowFault:
    return RowFault(
        line,
        path,
        "invalid_unicode",
        f"`{path}` holds half of a surrogate pair (\\ud800 to \\udfff alone); write the character whole.",
    )


def _judge_chat(line: int, value: Any) -> tuple[list[Message], list[RowFault]]:
    if not isinstance(value, list):
        message = f"`messages` is {_kind(value)}; make it a list of messages."
        return [], [RowFault(line, "messages", "wrong_type", message)]
    messages: list[Message] = []
    faults: list[RowFault] = []
    for place, item in enumerate(value):
        found = list(_message_faults(line, f"messages[{place}]", item))
        faults.extend(found)
        if not found:
            role = "system" if item["role"] == "developer" else item["role"]
            messages.append(Message(role, item["content"], item.get("weight", 1)))
    if not faults:
        faults.extend(_order_faults(line, messages))
    return messages, faults


def _message_faults(line: int, path: str, item: Any) -> Iterator[RowFault]:
    if not isinstance(item, dict):
        yield RowFault(line, path, "wrong_type", f"`{path}` is {_kind(item)}; make it an object.")
        return
    tool = _tool_field(item)
    if tool is not None:
        message = f"`{path}.{tool}` is not supported; remove it and train on plain chat."
        yield RowFault(line, f"{path}.{tool}", "unsupported_field", message)
        return
    role = item.get("role")
    yield from _role_faults(line, path, item)
    if role == "assistant":
        yield from _text_faults(line, item, "content", "empty_assistant", f"{path}.")
    elif not (role in ("system", "developer") and item.get("content") == ""):
        # An empty system message is a fair way to switch off a template's default one.
        yield from _text_faults(line, item, "content", prefix=f"{path}.")
    yield from _weight_faults(line, path, item)


def _tool_field(item: dict[str, Any]) -> str | None:
    if item.keys().isdisjoint(_TOOL_FIELDS):
        return None
    return next((name for name in _TOOL_FIELDS if item.get(name)), None)


def _role_faults(line: int, path: str, item: dict[str, Any]) -> Iterator[RowFault]:
    path = f"{path}.role"
    role = item.get("role")
    if "role" not in item:
        yield RowFault(line, path, "missing_field", f"`{path}` is missing; add one of {', '.join(ROLES)}.")
    elif not isinstance(role, str):
        message = f"`{path}` is {_kind(role)}; make it one of {', '.join(ROLES)}."
        yield RowFault(line, path, "wrong_type", message)
    elif role not in ROLES and role != "developer":
        message = f"`{path}` is {role[:40]!r}, which is not supported; use one of {', '.join(ROLES)}."
        yield RowFault(line, path, "unknown_role", message)


def _weight_faults(line: int, path: str, item: dict[str, Any]) -> Iterator[RowFault]:
    if "weight" not in item:
        return
    weight = item["weight"]
    path = f"{path}.weight"
    if item.get("role") != "assistant":
        message = f"`{path}` is on a message that is not the assistant's; remove it."
        yield RowFault(line, path, "bad_weight", message)
    elif isinstance(weight, bool) or not isinstance(weight, int) or weight not in (0, 1):
        yield RowFault(line, path, "bad_weight", f"`{path}` is neither 0 nor 1; make it 0 or 1, or remove it.")


def _order_faults(line: int, messages: list[Message]) -> Iterator[RowFault]:
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        message = "The row has no assistant message, so there is nothing to learn; add the answer."
        yield RowFault(line, "messages", "no_assistant", message)
        return
    if not any(answer.weight for answer in answers):
        message = "Every assistant message has weight 0, so there is nothing to learn; give one weight 1."
        yield RowFault(line, "messages", "no_weighted_assistant", message)
    for place, turn in enumerate(messages):
        if turn.role == "system" and place > 0:
            path = f"messages[{place}].role"
            message = f"`{path}` is a system message after the first place; move it to the front."
            yield RowFault(line, path, "system_not_first", message)
    first = 1 if messages[0].role == "system" else 0
    if messages[first].role == "assistant":
        path = f"messages[{first}].role"
        message = f"`{path}` is the assistant's, but the user speaks first; put a user message before it."
        yield RowFault(line, path, "first_turn_not_user", message)
    if messages[-1].role != "assistant":
        path = f"messages[{len(messages) - 1}].role"
        message = f"`{path}` ends the row but is not the assistant's; end the row with the answer."
        yield RowFault(line, path, "last_turn_not_assistant", message)
