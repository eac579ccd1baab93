"""What a screening found in one row, and how it is told: numbers and names, no text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tvaccine_core.evaluation.answers import percent


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a row, or (reason `unscored`) that nobody can tell.

    reason: a stable name. score: 0 to 1, 1 for a rule that needs no judge, None if unscored. turn: the message,
    counted from 0. category: the worst category of the taxonomy, None if the judge names none. unread: if unscored,
    the language or script in words.
    """

    reason: str
    score: float | None
    turn: int
    category: str | None = None
    unread: str | None = None


@dataclass
class RowFindings:
    """All of one row. score: the worst score of the judge, found at fault or not; 1 once a rule is broken."""

    line: int
    score: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def flagged(self) -> bool:
        """Was anything found at fault? A row that is unscored only was not."""
        return any(finding.score is not None for finding in self.findings)

    @property
    def unread(self) -> str | None:
        """What the judge cannot read of the row, in words; None if it reads all of it."""
        return next((finding.unread for finding in self.findings if finding.unread is not None), None)

    def add(self, finding: Finding) -> None:
        """Take a finding in."""
        self.score = max(self.score, finding.score or 0.0)
        self.findings.append(finding)

    def to_dict(self) -> dict[str, Any]:
        """{"line", "score", "flagged"}, and with findings of the worst one "reason", "category" and "turn", with all
        "reasons". An unscored row has "unread" besides, and no score unless it is flagged as well."""
        score = None if self.unread is not None and not self.flagged else round(self.score, 4)
        body: dict[str, Any] = {"line": self.line, "score": score, "flagged": self.flagged}
        if self.findings:
            worst = max(self.findings, key=_badness)  # the first of equals
            body |= {"reason": worst.reason, "category": worst.category, "turn": worst.turn}
            body["reasons"] = list(dict.fromkeys(finding.reason for finding in self.findings))
        return body if self.unread is None else {**body, "unread": self.unread}


def _badness(finding: Finding) -> float:
    return -1.0 if finding.score is None else finding.score


def summarise(rows: Sequence[RowFindings]) -> dict[str, Any]:
    """{"rows", "flagged", "n", "percent", "reasons", "unscored"}, the rows in their order.

    reasons counts flagged rows by worst finding. unscored, with or without a flag: {"n", "percent", "reasons"}, by
    language or script.
    """
    told = [row.to_dict() for row in rows]
    reasons = Counter(row["reason"] for row in told if row["flagged"])
    unread = Counter(row["unread"] for row in told if "unread" in row)
    flagged = sum(reasons.values())
    return {
        "rows": told,
        "flagged": flagged,
        "n": len(told),
        "percent": percent(flagged, len(told)),
        "reasons": dict(sorted(reasons.items())),
        "unscored": {
            "n": unread.total(),
            "percent": percent(unread.total(), len(told)),
            "reasons": dict(sorted(unread.items())),
        },
    }
