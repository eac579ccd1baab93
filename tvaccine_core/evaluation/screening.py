"""Judge training rows before anyone trains on them. Leaves `report.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tvaccine_core.data.rows import Row, read_rows_file, require_valid
from tvaccine_core.evaluation.answers import judge_closed
from tvaccine_core.evaluation.evasion.known_prompts import KnownPrompts
from tvaccine_core.evaluation.evasion.rules import broken_rules
from tvaccine_core.evaluation.evasion.views import ANSWER, View, row_views
from tvaccine_core.evaluation.evasion.windows import is_sampled
from tvaccine_core.evaluation.judge.loading import load_judge
from tvaccine_core.evaluation.judge.verdict import OnBatch, Pair, Verdict
from tvaccine_core.evaluation.screening_config import ScreenConfig
from tvaccine_core.evaluation.screening_findings import Finding, RowFindings, summarise
from tvaccine_core.evaluation.screening_unscored import unscored_findings
from tvaccine_core.models.base import load_base
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE, MetricsWriter
from tvaccine_core.training.stop import Stopped, never

RULES_EACH = 500
"""Rows between two looks at `should_stop` while rows are read without the judge."""


def screen(
    base: str,
    training_file: Path,
    out: Path,
    *,
    judge: str | Path | None = None,
    config: ScreenConfig | None = None,
    gate_files: Sequence[str | Path] = (),
    harmful_files: Sequence[str | Path] = (),
    should_stop: Callable[[], bool] = never,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Judge every row in all its views and by the rules; a row is as bad as the worst of them.

    What the judge flags in a language that it does not know stays flagged; that it flags nothing there acquits nobody.
    gate_files, harmful_files: prompts that are known, besides those of the demo set that are harmful.
    report.json: what `summarise` returns, and "pairs" (judged), "views" (by the reason each would give), "sampled"
    (rows with a text so long that parts of it were left out), "judge" {"name", "version", "threshold"}, "rule" and
    "base_digest". It holds no text of any row.
    Raises InvalidTrainingFile for faulty rows, ScoringFailed when the judge fails or known prompts cannot be read,
    BaseMismatch when the judge belongs to another base and Stopped when should_stop says so.
    """
    out.mkdir(parents=True, exist_ok=True)
    rule = config or ScreenConfig()
    rows = require_valid(read_rows_file(training_file, min_rows=1))
    known = KnownPrompts.read(gate_files, harmful_files, rule.similarity)
    found = _by_rules(rows, known, should_stop)
    views = [(row.line, view) for row in rows for view in row_views(row)]
    pairs = list(dict.fromkeys(view.pair for _, view in views))
    loaded = load_base(base, dtype=dtype, device=device)
    chosen = load_judge(judge, loaded)
    verdicts = judge_closed(chosen, pairs, rule.threshold, _recorder(out, len(pairs), should_stop))
    limit = chosen.threshold if rule.threshold is None else rule.threshold
    _take_verdicts(found, views, dict(zip(pairs, verdicts, strict=True)), limit, rule.part_margin)
    for line, finding in unscored_findings(views, chosen.languages):
        found[line].add(finding)
    report = {
        **summarise(list(found.values())),
        "pairs": len(pairs),
        "sampled": sum(any(is_sampled(message.content) for message in row.messages) for row in rows),
        "views": dict(sorted(Counter(view.reason for _, view in views).items())),
        "judge": {"name": chosen.name, "version": chosen.version, "threshold": limit},
        "rule": rule.to_dict(),
        "base_digest": loaded.digest,
    }
    write_json_atomic(out / "report.json", report)


def _by_rules(rows: Sequence[Row], known: KnownPrompts, should_stop: Callable[[], bool]) -> dict[int, RowFindings]:
    """What the rules find, for each row by its line."""
    found = {row.line: RowFindings(row.line) for row in rows}
    for done, row in enumerate(rows):
        if done % RULES_EACH == 0 and should_stop():
            raise Stopped(0, None)
        for reason, turn in broken_rules(row, known):
            found[row.line].add(Finding(reason, 1.0, turn))
    return found


def _recorder(out: Path, total: int, should_stop: Callable[[], bool]) -> OnBatch:
    writer = MetricsWriter(out / METRICS_FILE, stage="screening", total=total)

    def on_batch(done: int, _total: int) -> None:
        writer.write(done, {})
        if should_stop():
            raise Stopped(done, None)

    return on_batch


def _take_verdicts(
    found: dict[int, RowFindings],
    views: Sequence[tuple[int, View]],
    verdicts: dict[Pair, Verdict],
    limit: float,
    margin: float,
) -> None:
    """Add what the judge says. Anything but a whole supervised answer as it stands counts `margin` less."""
    for line, view in views:
        verdict = verdicts[view.pair]
        score = verdict.score if view.reason == ANSWER else max(0.0, verdict.score - margin)
        row = found[line]
        if score >= limit:
            row.add(Finding(view.reason, score, view.turn, _worst_category(verdict)))
        else:
            row.score = max(row.score, score)


def _worst_category(verdict: Verdict) -> str | None:
    return max(verdict.categories, key=lambda name: verdict.categories[name], default=None)
