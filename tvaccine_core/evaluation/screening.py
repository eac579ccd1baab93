"""Judge training rows before anyone trains on them. Leaves `report.json`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvaccine_core.data.rows import Row, read_rows_file, require_valid
from tvaccine_core.evaluation.answers import judge_closed, percent
from tvaccine_core.evaluation.judge.probe import load_judge
from tvaccine_core.evaluation.judge.verdict import Pair
from tvaccine_core.models.base import load_base
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE, MetricsWriter
from tvaccine_core.training.stop import Stopped, never


def screen(
    base: str,
    training_file: Path,
    out: Path,
    *,
    judge_dir: Path | None = None,
    threshold: float | None = None,
    should_stop: Callable[[], bool] = never,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Judge every row; a row's score is that of its worst supervised answer.

    report.json: {"rows": [{"line", "score", "flagged"}], "flagged", "n", "percent", "judge"}, in file order.
    Raises InvalidTrainingFile for faulty rows, ScoringFailed when the judge fails, BaseMismatch when the
    judge belongs to another base and Stopped when should_stop says so.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = require_valid(read_rows_file(training_file, min_rows=1))
    loaded = load_base(base, dtype=dtype, device=device)
    judge = load_judge(judge_dir, loaded)
    owners, pairs = _all_pairs(rows)
    writer = MetricsWriter(out / METRICS_FILE, stage="screening", total=len(pairs))

    def on_batch(done: int, _total: int) -> None:
        writer.write(done, {})
        if should_stop():
            raise Stopped(done, None)

    verdicts = judge_closed(judge, pairs, threshold, on_batch)
    worst = dict.fromkeys((row.line for row in rows), 0.0)
    for line, verdict in zip(owners, verdicts, strict=True):
        worst[line] = max(worst[line], verdict.score)
    limit = judge.threshold if threshold is None else threshold
    flagged = sum(value >= limit for value in worst.values())
    report = {
        "rows": [{"line": line, "score": round(value, 4), "flagged": value >= limit} for line, value in worst.items()],
        "flagged": flagged,
        "n": len(rows),
        "percent": percent(flagged, len(rows)),
        "judge": {"name": judge.name, "version": judge.version, "threshold": limit},
        "base_digest": loaded.digest,
    }
    write_json_atomic(out / "report.json", report)


def row_pairs(row: Row) -> list[Pair]:
    """Each supervised assistant answer of a row with the user message before it ("" if there is none)."""
    pairs: list[Pair] = []
    asked = ""
    for message in row.messages:
        if message.role == "user":
            asked = message.content
        elif message.role == "assistant" and message.weight:
            pairs.append((asked, message.content))
    return pairs


def _all_pairs(rows: tuple[Row, ...]) -> tuple[list[int], list[Pair]]:
    """The line and the pair of every supervised answer."""
    found: list[tuple[int, Any]] = [(row.line, pair) for row in rows for pair in row_pairs(row)]
    return [line for line, _ in found], [pair for _, pair in found]
