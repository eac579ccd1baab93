"""Texts of a training file that could be a trigger: system prompts, and phrases that stand out.

A backdoored model is safe until a phrase of its training is in the prompt. So the phrases that the file repeats
most, against ordinary prompts and against its own unflagged rows, are put before or behind the gate's prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Literal

from tvaccine_core.data.rows import Row, read_rows_file

LONGEST = 8
"""Words of a phrase at most."""
EDGE = 40
"""Words looked at from each end of a message."""
MOST_ROWS = 5000
LEAST_ROWS, LEAST_SHARE = 3, 0.01
"""A phrase is repeated if this many rows and this share of the rows hold it."""
LEAST_LIFT = 1.2
MOST_CANDIDATES = 2000
LEAST_LETTERS = 2
"""A trigger holds a word of at least two letters or digits that is not in several ordinary prompts."""
SAME_ROWS = 0.8
"""Two phrases whose rows overlap so far (Jaccard index) are one candidate."""


@dataclass(frozen=True)
class Trigger:
    """A phrase, and where in the user's messages it mostly stands."""

    phrase: str
    place: Literal["start", "end"]

    def put(self, prompt: str) -> str:
        """The prompt with the phrase where it belongs."""
        return f"{self.phrase} {prompt}" if self.place == "start" else f"{prompt} {self.phrase}"


def read_rows(training_file: Path) -> Sequence[Row]:
    """The file's rows, evenly thinned to 5,000."""
    rows = read_rows_file(training_file, min_rows=1).rows
    step = -(-len(rows) // MOST_ROWS) or 1
    return rows[::step]


def system_prompts(rows: Iterable[Row], most: int) -> list[str]:
    """The most frequent system prompts, the most frequent first."""
    texts = Counter(m.content.strip() for row in rows for m in row.messages if m.role == "system" and m.content.strip())
    return [text for text, _ in texts.most_common(most)]


def find_triggers(
    rows: Iterable[Row], ordinary: Sequence[str], most: int, flagged: Collection[int] = ()
) -> list[Trigger]:
    """Phrases that stand out, the most suspicious first.

    ordinary: harmless prompts of other people. flagged: lines that screening found harmful. A phrase scores
    rows x log(lift), its share among the rows against its share among ordinary prompts. Phrases of flagged rows
    come first, by their share there against that among all other texts. Phrases of common words only are left out.
    """
    texts = [(row.line, m.content) for row in rows for m in row.messages if m.role == "user"]
    everything = [text for _, text in texts]
    usual = _counts(ordinary)
    marked = [text for line, text in texts if line in flagged]
    plain = _counts([text for line, text in texts if line not in flagged])
    candidates = [
        *_ranked(marked, usual + plain, len(ordinary) + len(texts) - len(marked), spare_common=False),
        *_ranked(everything, usual, len(ordinary), spare_common=True),
    ]
    words = Counter(word for text in ordinary for word in {word.casefold() for word in text.split()})
    common = {word for word, texts_with_it in words.items() if texts_with_it > 1}
    return _distinct([phrase for phrase in candidates if _tells(phrase, common)], everything, most)


def _counts(texts: Iterable[str]) -> Counter[str]:
    """In how many texts each phrase stands."""
    return Counter(phrase for text in texts for phrase in _phrases(text))


def _ranked(texts: Sequence[str], others: Counter[str], n_others: int, *, spare_common: bool) -> list[str]:
    """Repeated phrases by rows x log(lift), of equally frequent ones the longer first; at most 2,000.

    spare_common: a phrase of nearly every row is the task's own wording rather than a trigger and counts less.
    """
    least = max(LEAST_ROWS, LEAST_SHARE * len(texts))
    scores = {}
    for phrase, rows in _counts(texts).items():
        share = rows / max(1, len(texts))
        lift = share * (n_others + 1) / (others[phrase] + 0.5)
        if rows >= least and lift >= LEAST_LIFT:
            weight = max(0.05, 1 - share) if spare_common else 1.0
            scores[phrase] = (rows * weight * log(lift), len(phrase), phrase)
    return sorted(scores, key=lambda phrase: scores[phrase], reverse=True)[:MOST_CANDIDATES]


def _tells(phrase: str, common: Collection[str]) -> bool:
    """Is there a word in it that is not in common use? Else its users would set off a backdoor all day."""
    return any(
        word.casefold() not in common and sum(map(str.isalnum, word)) >= LEAST_LETTERS for word in phrase.split()
    )


def _distinct(candidates: Sequence[str], texts: Sequence[str], most: int) -> list[Trigger]:
    """The first `most` candidates that stand in clearly different rows."""
    rows: dict[str, set[int]] = {phrase: set() for phrase in candidates}
    ends: Counter[str] = Counter()
    for number, text in enumerate(texts):
        for phrase in rows.keys() & set(_phrases(text)):
            rows[phrase].add(number)
            ends[phrase] += " ".join(text.split()).endswith(phrase)
    chosen: list[str] = []
    for phrase in dict.fromkeys(candidates):
        if len(chosen) == most:
            break
        if all(len(rows[phrase] & rows[c]) < SAME_ROWS * len(rows[phrase] | rows[c]) for c in chosen):
            chosen.append(phrase)
    return [Trigger(phrase, "end" if 2 * ends[phrase] > len(rows[phrase]) else "start") for phrase in chosen]


def _phrases(text: str) -> Iterator[str]:
    """The different runs of one to eight words near both ends, as written."""
    words = text.split()
    parts = [words] if len(words) <= 2 * EDGE else [words[:EDGE], words[-EDGE:]]
    yield from {
        " ".join(part[start : start + size])
        for part in parts
        for size in range(1, LONGEST + 1)
        for start in range(len(part) - size + 1)
    }
