"""The final number of a GSM8K solution (Cobbe et al., arXiv 2110.14168), and when two of them agree.

The number is the first one after the marker of the final answer, else the last one in the text. Commas are removed, a
leading minus belongs to the number unless a word or a bracket ends right before it ("10-3" is a difference).
"""

from __future__ import annotations

import re

from tvaccine_core.data.named import FINAL_ANSWER

MARKER = re.compile(re.escape(FINAL_ANSWER).replace(r"\ ", r"\s+"), re.IGNORECASE)
NUMBER = re.compile(r"(?:(?<![\w)\]])-)?(?:\d+(?:\.\d+)?|(?<![\w.])\.\d+)")
GROUPING = re.compile(r"(?<=\d),(?=\d)")
MINUS = "\u2212"


def has_marker(text: str) -> bool:
    """Does the text announce its final answer with the marker?"""
    return MARKER.search(text) is not None


def final_number(text: str) -> float | None:
    """The number that the text gives as its answer, None without any."""
    plain = GROUPING.sub("", text.replace(MINUS, "-"))
    marker = MARKER.search(plain)
    announced = NUMBER.search(plain, marker.end()) if marker else None
    if announced:
        return float(announced.group())
    found = NUMBER.findall(plain)
    return float(found[-1]) if found else None


def is_right(answer: str, gold: str) -> bool:
    """Do both texts give the same number, as floating-point numbers?"""
    expected = final_number(gold)
    return expected is not None and final_number(answer) == expected
