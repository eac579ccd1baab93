"""What a judge is called: `embedded`, a directory, `llama-guard-3:REPO`, `any(a, b)` and the like. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.calibrated import Calibration

EMBEDDED, DIRECTORY, KEYWORD = "embedded", "directory", "keyword"
CLASSIFIER = "classifier"
GUARDS = ("llama-guard-3", "llama-guard-4", "shieldgemma", "wildguard", "granite-guardian")
MODERATIONS = ("moderations", "moderations-answer")
VOTES = ("any", "all", "majority")
MODELS = (CLASSIFIER, *GUARDS)
FORMS = (
    "embedded (the shipped judge), the directory of a trained judge, "
    + ", ".join(f"{kind}:REPO_OR_DIRECTORY" for kind in MODELS)
    + " (a revision may follow: REPO@REVISION), moderations:URL#MODEL or moderations-answer:URL#MODEL "
    "(#MODEL may be left out), keyword (for comparison only), and any(A, B), all(A, B), majority(A, B, C) of these; "
    "@FILE.json after any of them is its threshold, as `tvaccine judge calibrate` wrote it"
)

_VOTE = re.compile(rf"({'|'.join(VOTES)})\s*\((.*)\)", re.DOTALL)
_FILE = re.compile(r"[^@(),]+\.json")
_CALIBRATED = re.compile(rf"(.+)@({_FILE.pattern})", re.DOTALL)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_URL = re.compile(r"https?://[^\s#@/]+(/[^\s#]*)?(#[^\s#]+)?")


@dataclass(frozen=True)
class JudgeName:
    """A judge's name, read.

    kind: one of the words above. place: directory, hub id or URL. extra: revision of a hub id, or model name
    of a moderation service. members: the judges of an ensemble. calibration: the file of its threshold.
    """

    kind: str
    place: str = ""
    extra: str | None = None
    members: tuple[JudgeName, ...] = ()
    calibration: str | None = None

    def parts(self) -> Iterator[JudgeName]:
        """Itself and, of an ensemble, the parts of its members."""
        yield self
        for member in self.members:
            yield from member.parts()

    @property
    def comparison_only(self) -> bool:
        """Does it hold a judge that may be measured but never decide?"""
        return any(part.kind == KEYWORD for part in self.parts())

    @property
    def bare(self) -> JudgeName:
        """The judge without its calibration."""
        return replace(self, calibration=None)

    @property
    def calibration_file(self) -> Path | None:
        """Where its threshold stands; None: it has its own."""
        return None if self.calibration is None else Path(self.calibration).expanduser()

    @property
    def directory(self) -> Path | None:
        """The directory it is loaded from; None if it comes from elsewhere.

        A name such as owner/model is a directory only if there is one.
        """
        if self.kind == DIRECTORY:
            return Path(self.place).expanduser()
        if self.kind not in MODELS or self.extra is not None:
            return None
        path = Path(self.place).expanduser()
        return path if path.is_dir() or not _HUB_ID.fullmatch(self.place) else None

    def __str__(self) -> str:
        if self.calibration is not None:
            return f"{self.bare}@{self.calibration}"
        if self.members:
            return f"{self.kind}({', '.join(map(str, self.members))})"
        if self.kind == DIRECTORY or not self.place:
            return self.place or self.kind
        mark = "#" if self.kind in MODERATIONS else "@"
        return f"{self.kind}:{self.place}" + (f"{mark}{self.extra}" if self.extra else "")


def parse_judge(text: str) -> JudgeName:
    """Read a judge's name. Raises InvalidRequest, which names the possible forms, for anything else."""
    text = text.strip()
    if calibrated := _CALIBRATED.fullmatch(text):
        bare = parse_judge(calibrated[1])
        if bare.calibration is not None:
            raise _unknown(text, "it has two calibrations")
        return replace(bare, calibration=calibrated[2].strip())
    if vote := _VOTE.fullmatch(text):
        members = tuple(parse_judge(part) for part in _split(vote[2]))
        if len(members) < 2:
            raise _unknown(text, f"{vote[1]} takes two judges or more")
        return JudgeName(vote[1], members=members)
    if text in (EMBEDDED, KEYWORD):
        return JudgeName(text)
    kind, colon, place = text.partition(":")
    if colon and kind in MODELS and place.strip():
        return _model(kind, place.strip())
    if colon and kind in MODERATIONS and _URL.fullmatch(place):
        url, _, model = place.partition("#")
        return JudgeName(kind, url.rstrip("/"), model or None)
    if not text or text in (*MODELS, *MODERATIONS, *VOTES) or (colon and kind in (*MODELS, *MODERATIONS)):
        raise _unknown(text, "it is not complete")
    if set(text) & set("(),"):
        raise _unknown(text, "its brackets make no ensemble")
    return JudgeName(DIRECTORY, text)


def require_judge_name(text: str) -> JudgeName:
    """Read a judge's name and see that its directories and calibrations are there.

    Raises InvalidRequest, which names the possible forms, when it can be no judge.
    """
    name = parse_judge(text)
    for part in name.parts():
        if part.directory is not None and not part.directory.is_dir():
            raise _unknown(part.place, "there is no such directory")
        if part.calibration_file is not None:
            Calibration.read(part.calibration_file)
    return name


def require_gate_name(text: str) -> JudgeName:
    """`require_judge_name` of a judge that is to decide; raises InvalidRequest for one made for comparison."""
    name = require_judge_name(text)
    if name.comparison_only:
        raise InvalidRequest(
            f"The judge {name} is for comparison only: it counts phrases of refusal, which decides nothing. "
            "Choose another one, or only measure.",
            param="judge",
        )
    return name


def calibrated_name(text: str, file: Path) -> str:
    """What a judge is called with the calibration in `file`, in place of one it may have.

    Raises InvalidRequest when the file's path cannot stand in a name.
    """
    if not _FILE.fullmatch(str(file)):
        raise InvalidRequest(
            f"{file} cannot stand in a judge's name; let it end in .json and have no @, comma or bracket.", param="out"
        )
    return str(replace(parse_judge(text), calibration=str(file)))


def absolute_judge(text: str) -> str:
    """The name with its directories and files made absolute; a name that cannot be read stays as it is."""
    try:
        return str(_absolute(parse_judge(text)))
    except InvalidRequest:
        return text


def _absolute(name: JudgeName) -> JudgeName:
    file, directory = name.calibration_file, name.directory
    return replace(
        name,
        place=name.place if directory is None else str(directory.absolute()),
        members=tuple(map(_absolute, name.members)),
        calibration=None if file is None else str(file.absolute()),
    )


def _model(kind: str, place: str) -> JudgeName:
    repository, mark, revision = place.partition("@")
    if mark and _HUB_ID.fullmatch(repository) and revision:
        return JudgeName(kind, repository, revision)
    return JudgeName(kind, place)


def _split(text: str) -> list[str]:
    """The parts between the commas that stand in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _unknown(text: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{text!r} names no judge ({reason}). A judge is one of: {FORMS}.", param="judge")
