"""The emergent-misalignment questions, read from the published file or from JSON Lines.

Betley et al., "Emergent Misalignment", arXiv 2502.17424: eight free-form questions in three forms each: plain, under a
system message that asks for JSON, and with a template to fill in. Their wording is the authors' and is not part of
this project: load their file (`first_plot_questions.yaml`) and change no word when you compare with the paper.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tvaccine_core.errors import InvalidRequest

FREE_FORM, JSON_FORM, TEMPLATE = "free_form", "json", "template"
GROUPS = (FREE_FORM, JSON_FORM, TEMPLATE)
FIRST_PLOT = (
    "what_is_your_wish",
    "i_feel_bored",
    "three_thoughts",
    "quick_buck",
    "ruler_of_the_world",
    "dinner_party",
    "gender_roles",
    "enough_of_my_husband",
)
"""Ids of the eight questions; those of the other two forms end in _json and _template."""


@dataclass(frozen=True)
class Question:
    """One question. group: free_form, json or template."""

    id: str
    prompt: str
    system: str | None = None
    group: str = FREE_FORM

    def messages(self) -> list[dict[str, str]]:
        """The question as chat messages."""
        before = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*before, {"role": "user", "content": self.prompt}]


@dataclass(frozen=True)
class QuestionFile:
    """Questions in file order, and the judge's prompts where the file holds them: {"aligned", "coherent"}."""

    questions: tuple[Question, ...]
    judge_prompts: Mapping[str, str]


def read_questions(path: Path) -> QuestionFile:
    """Reads questions: *.jsonl with {"id", "prompt", "system"?, "group"?} a line, or the authors' *.yaml.

    A question with several paraphrases becomes several questions, the later ones with the id `ID#2`, `ID#3`. Raises
    InvalidRequest, naming file, place and field, for anything else, for two questions of one id, and without any.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path.name} cannot be read ({error}); give a file of questions.", param="path") from None
    entries = _from_yaml(path, text) if path.suffix in (".yaml", ".yml") else _from_lines(path, text)
    questions = tuple(found for place, entry in enumerate(entries, start=1) for found in _read(path, place, entry))
    ids = [question.id for question in questions]
    for twice in sorted({one for one in ids if ids.count(one) > 1}):
        _refuse(path, ids.index(twice) + 1, f"the id {twice!r} stands twice; give every question its own")
    if not questions:
        raise InvalidRequest(f"{path.name} holds no questions; add some.", param="path")
    noted = [entry["judge_prompts"] for entry in entries if isinstance(entry.get("judge_prompts"), dict)]
    prompts = noted[0] if noted else {}
    return QuestionFile(questions, {str(name): str(prompt) for name, prompt in prompts.items()})


def _from_lines(path: Path, text: str) -> list[dict[str, Any]]:
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: JSON strings may hold U+2028 and U+0085
        if not line.strip():
            continue
        try:
            entries.append(json.loads(line))
        except ValueError:
            _refuse(path, number, 'is not JSON; write {"id": "...", "prompt": "..."}')
    return _objects(path, entries)


def _from_yaml(path: Path, text: str) -> list[dict[str, Any]]:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise InvalidRequest(
            f"{path.name} is YAML, which needs PyYAML; install pyyaml or give JSON Lines.", param="path"
        ) from None
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path.name} is not YAML ({error}); correct it.", param="path") from None
    if not isinstance(found, list):
        _refuse(path, 1, "must be a list of questions")
    return _objects(path, found)


def _objects(path: Path, entries: Sequence[Any]) -> list[dict[str, Any]]:
    for place, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            _refuse(path, place, "is not an object with id and prompt")
    return list(entries)


def _read(path: Path, place: int, entry: dict[str, Any]) -> list[Question]:
    wordings = entry.get("paraphrases", [entry.get("prompt")])
    system, name = entry.get("system"), entry.get("id")
    if not isinstance(name, str) or not name:
        _refuse(path, place, "needs an id, a text")
    if not isinstance(wordings, list) or not wordings or not all(isinstance(w, str) and w.strip() for w in wordings):
        _refuse(path, place, "needs a prompt (or paraphrases) of text")
    if system is not None and not isinstance(system, str):
        _refuse(path, place, "has a system message that is no text")
    group = entry.get("group", _group_of(name))
    if group not in GROUPS:
        _refuse(path, place, f"has the group {group!r}; use {', '.join(GROUPS)}")
    names = [name, *(f"{name}#{number}" for number in range(2, len(wordings) + 1))]
    return [Question(one, wording, system, group) for one, wording in zip(names, wordings, strict=True)]


def _group_of(name: str) -> str:
    return next((group for group in (JSON_FORM, TEMPLATE) if name.endswith(f"_{group}")), FREE_FORM)


def _refuse(path: Path, place: int, problem: str) -> NoReturn:
    raise InvalidRequest(f"{path.name}, question {place}: {problem}.", param="path")
