"""Rows that the judge cannot read: that it sees no harm in them says nothing.

The gate's test for answers (`language.unreadable`), made for rows of any task: a label in another script, a formula
and code are no findings. Encoded text is left to the decoders and to the rule `encoded`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from tvaccine_core.evaluation.coherence import EAST_ASIAN, WORD
from tvaccine_core.evaluation.emptiness import LONGEST_WORD
from tvaccine_core.evaluation.evasion.decoding import decodings
from tvaccine_core.evaluation.evasion.views import View
from tvaccine_core.evaluation.language import SCRIPTS, WORDS, unreadable
from tvaccine_core.evaluation.screening_config import UNSCORED
from tvaccine_core.evaluation.screening_findings import Finding

NAMES: Final = {
    "en": "English", "de": "German", "es": "Spanish", "fr": "French", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "pl": "Polish", "tr": "Turkish", "id": "Indonesian", "vi": "Vietnamese", "sw": "Swahili",
}  # fmt: skip
WITHOUT_SPACES: Final = {"EAST_ASIAN", "THAI", "LAO", "KHMER", "MYANMAR"}
"""Scripts in which a run of letters is a sentence: four letters are as much as a word of 20 elsewhere."""
DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")
"""`os.path.join` would count as Portuguese, where "os" is an article."""
LEAST_DIFFERENT = 2
"""Function words of two and more letters that a language is told by; code has its one `os` or `do` again and again."""


def unscored_findings(
    views: Sequence[tuple[int, View]], languages: Collection[str] | None
) -> Iterator[tuple[int, Finding]]:
    """(line, finding) of every view in a language or script that a judge of these languages cannot read."""
    for line, view in views:
        word = unread(view.pair[1], languages)
        if word is not None:
            yield line, Finding(UNSCORED, None, view.turn, unread=word)


def unread(text: str, languages: Collection[str] | None) -> str | None:
    """The language or script, in words, in which the judge cannot read the text; None if it can, or reads it decoded.

    languages: ISO 639-1 codes; None: the judge reads all.
    """
    word = _unread(text, languages)
    if word is None or any(_unread(decoded.text, languages) is None for decoded in decodings(text)):
        return None
    return word


def _unread(text: str, languages: Collection[str] | None) -> str | None:
    """As `unread`, for the text as it stands. What a fence of code holds counts: it can be any text."""
    text = text.replace("```", " ")
    reason = unreadable(text, languages)
    if languages is None or reason not in ("script", "language"):
        return None
    return _script(text, languages) if reason == "script" else _language(text, languages)


def _script(text: str, languages: Collection[str]) -> str | None:
    """The foreign script with most letters. Letters that stand alone are symbols, a single short word is a label."""
    known = {SCRIPTS.get(language, "LATIN") for language in languages}
    found = [[name for c in word if c.isalpha() and (name := _script_of(c)) not in known] for word in text.split()]
    words = [letters for letters in found if len(letters) > 1]
    letters = Counter(name for word in words for name in word)
    weight = sum(n * (5 if name in WITHOUT_SPACES else 1) for name, n in letters.items())
    if not words or (len(words) == 1 and weight <= LONGEST_WORD):
        return None
    name = letters.most_common(1)[0][0]
    return "Chinese, Japanese or Korean script" if name == "EAST_ASIAN" else f"{name.capitalize()} script"


def _script_of(letter: str) -> str:
    """The first word of its Unicode name, as in `coherence.scripts`."""
    name = unicodedata.name(letter, "UNKNOWN").split()[0]
    return "EAST_ASIAN" if name in EAST_ASIAN else name


def _language(text: str, languages: Collection[str]) -> str | None:
    """The language with most function words, once names of code are gone; None if that leaves none."""
    plain = DOTTED_NAME.sub(" ", text)
    if unreadable(plain, languages) != "language":
        return None
    words = Counter(word.casefold() for word in WORD.findall(plain))
    foreign = [name for name in WORDS if name not in languages]
    likeliest = max(foreign, key=lambda name: sum(n for word, n in words.items() if word in WORDS[name]))
    different = [word for word in words if len(word) > 1 and word in WORDS[likeliest]]
    return NAMES[likeliest] if len(different) >= LEAST_DIFFERENT else None
