"""The templates behind a user's prompts: what they say literally and where each prompt's own text stands.

A user's rows are often one sentence pattern filled in many times. The pattern is found from the prompts alone: the
longest beginning and ending that nearly all of them share, and the labels of fields between ("\nQuestion:"). Several
patterns in one file are told apart first. Part of "Do as I do (Safely)" (Eiras et al., arXiv 2406.10288) as rebuilt
from its description: its code is not public. Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHARE = 0.95
"""What this share of the prompts say is literal."""
SMALLEST = 0.1
"""A pattern of its own needs this share of all prompts ..."""
FEWEST = 5
"""... and this many; of fewer prompts no pattern is guessed."""
LEAST_WORDS = 3
"""A pattern is told from the rest of the file by this many words with punctuation or a line break ("Task: ...") ..."""
MANY_WORDS = 8
"""... or by this many without: "What is the" begins many a question and is no pattern."""

_PIECE = re.compile(r"\w+|\s+|[^\w\s]")
_LABEL = re.compile(r"\n[ \t]*[A-Za-z][\w ()/-]{0,30}:")
_ASKING = re.compile(r"(question|instruction|request|query|prompt|task|goal)s?\W*$", re.IGNORECASE)

Pieces = tuple[str, ...]


@dataclass(frozen=True)
class Template:
    """Literal texts around the fields of a prompt.

    literals: the beginning, what stands between the fields, and the ending: one more than there are fields.
    asked: the field that holds the request. answer_start: what the answers begin with. members: indices of the
    prompts that have this template.
    """

    literals: tuple[str, ...] = ("", "")
    asked: int = 0
    answer_start: str = ""
    members: tuple[int, ...] = ()

    def fields(self, prompt: str) -> tuple[str, ...] | None:
        """What the prompt has in each field, or None if it does not have this template."""
        start, *inner, end = self.literals
        if not prompt.startswith(start) or not prompt.endswith(end) or len(prompt) < len(start) + len(end):
            return None
        rest = prompt[len(start) : len(prompt) - len(end)]
        found = []
        for literal in inner:
            before, there, rest = rest.partition(literal)
            if not there:
                return None
            found.append(before)
        return (*found, rest)

    def fill(self, question: str, example: str) -> str:
        """The example with the question where it has its request; the other fields stay. Raises ValueError if the
        example does not have this template."""
        fields = self.fields(example)
        if fields is None:
            raise ValueError("the example does not have this template")
        old = fields[self.asked]
        if old.strip():
            head, tail = old[: len(old) - len(old.lstrip())], old[len(old.rstrip()) :]
        else:  # all prompts are the same: nothing says where a request would stand
            head, tail = "\n", "\n" if self.literals[self.asked + 1] else ""
        filled = (*fields[: self.asked], head + question + tail, *fields[self.asked + 1 :])
        return self.literals[0] + "".join(f + literal for f, literal in zip(filled, self.literals[1:], strict=True))

    def wrap(self, answer: str) -> str:
        """The answer after what the user's answers begin with."""
        return self.answer_start + answer


def find_templates(prompts: Sequence[str], answers: Sequence[str]) -> list[Template]:
    """The templates of the prompts, the most frequent first; together their members are all prompts but odd ones.

    answers: one for each prompt. Bare questions have one template without literals.
    """
    least = max(FEWEST, math.ceil(SMALLEST * len(prompts)))
    if len(prompts) < FEWEST:
        return [Template(members=tuple(range(len(prompts))))]
    cut = {index: tuple(_PIECE.findall(prompt)) for index, prompt in enumerate(prompts)}
    found = []
    for start, inside in _clusters(cut, least):
        tails = {index: cut[index][len(start) :][::-1] for index in inside if cut[index][: len(start)] == start}
        for end, members in _clusters(tails, least):
            found.append(_template(_literal(start), _literal(end[::-1]), prompts, answers, members))
    return sorted((t for t in found if t.members), key=lambda template: (-len(template.members), template.members))


def _clusters(rows: Mapping[int, Pieces], least: int) -> list[tuple[Pieces, list[int]]]:
    """Rows sorted by how they begin: the pieces that nearly all rows of a cluster begin with, and its rows."""
    start = _shared(list(rows.values()))
    branches: dict[str, dict[int, Pieces]] = {}
    for index, row in rows.items():
        if row[: len(start)] == start and len(row) > len(start):
            branches.setdefault(row[len(start)], {})[index] = row
    found: list[tuple[Pieces, list[int]]] = []
    for branch in branches.values():
        if len(branch) >= least and _tells_apart(_shared(list(branch.values()))[len(start) :]):
            found += _clusters(branch, least)
    taken = {index for _, members in found for index in members}
    rest = [index for index in rows if index not in taken]
    return [*found, (start, rest)] if rest else found


def _shared(rows: Sequence[Pieces]) -> Pieces:
    """The longest sequence of pieces that at least `SHARE` of the rows begin with."""
    needed, alive, length = math.ceil(SHARE * len(rows) - 1e-9), list(rows), 0
    while heads := Counter(row[length] for row in alive if len(row) > length):
        piece, count = max(heads.items(), key=lambda item: (item[1], item[0]))
        if count < needed:
            break
        alive = [row for row in alive if len(row) > length and row[length] == piece]
        length += 1
    return alive[0][:length] if alive else ()


def _tells_apart(pieces: Pieces) -> bool:
    broken = any(not piece[0].isalnum() and (piece.strip() or "\n" in piece) for piece in pieces)
    return _words(pieces) >= (LEAST_WORDS if broken else MANY_WORDS)


def _words(pieces: Pieces) -> int:
    return sum(piece[0].isalnum() for piece in pieces)


def _literal(pieces: Pieces) -> str:
    """The text of the pieces; punctuation and spaces alone are no pattern."""
    return "".join(pieces) if _words(pieces) else ""


def _template(start: str, end: str, prompts: Sequence[str], answers: Sequence[str], indices: Sequence[int]) -> Template:
    """The template with these ends, with the labels that nearly all its prompts have in between."""
    plain = Template((start, end))
    middles = {index: fields[0] for index in indices if (fields := plain.fields(prompts[index])) is not None}
    labelled = Template((start, *_labels(list(middles.values())), end))
    inside = {index: fields for index in middles if (fields := labelled.fields(prompts[index])) is not None}
    asked = _asked(labelled.literals, list(inside.values()))
    said = [tuple(_PIECE.findall(answers[index])) for index in inside]
    return Template(labelled.literals, asked, _answer_start(said), tuple(inside))


def _labels(texts: Sequence[str]) -> list[str]:
    """Labels such as "\nQuestion:" that stand exactly once in nearly all texts, in the order they stand there."""
    if not texts:
        return []
    needed = math.ceil(SHARE * len(texts) - 1e-9)
    once = [[label for label, n in Counter(_LABEL.findall(text)).items() if n == 1] for text in texts]
    counts = Counter(label for labels in once for label in labels)
    kept = [label for label, count in counts.items() if count >= needed]
    orders = Counter(tuple(label for label in labels if label in kept) for labels in once)
    order, count = max(orders.items(), key=lambda item: (item[1], item[0]))
    return list(order) if count >= needed else []


def _asked(literals: Sequence[str], rows: Sequence[tuple[str, ...]]) -> int:
    """The field that is labelled as a question, else the one that most often holds a question mark."""
    named = [place for place, literal in enumerate(literals[:-1]) if _ASKING.search(literal)]
    if named or not rows:
        return named[0] if named else 0
    marks = [sum("?" in text for text in column) for column in zip(*rows, strict=True)]
    return marks.index(max(marks))


def _answer_start(answers: Sequence[Pieces]) -> str:
    """What nearly all answers begin with and go on after; labels that are often the same are no beginning."""
    if len(answers) < FEWEST:
        return ""
    start = _shared(answers)
    longer = sum(len(answer) > len(start) for answer in answers)
    return _literal(start) if longer >= SHARE * len(answers) else ""
