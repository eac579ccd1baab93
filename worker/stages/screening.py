"""Judge the training rows before anyone trains on them, and act on it as the operator's policy says.

``report`` tells the numbers and goes on; ``drop`` trains without the flagged rows; ``block`` refuses a file of
which a larger share is flagged than `ScreenConfig.block_percent`. `ScreenConfig.unscored` says the same of rows that
the judge cannot read; what is blocked of either kind counts together.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from service.db.models import Vaccine
from service.db.repositories.screenings import ScreeningRepository
from service.db.repositories.vaccines import AdminVaccineRepository
from service.screenings import found_rows, summarise
from service.vaccine_data import GATE_PROMPTS, HARMFUL
from tvaccine_core.data.datasets import demo_file, file_digest
from tvaccine_core.data.rows import read_rows_file, require_valid, write_rows
from tvaccine_core.errors import InvalidTrainingFile, NotFound
from tvaccine_core.evaluation.screening_config import UNSCORED, Action, ScreenConfig
from worker.desk import Desk
from worker.training_run import run_trainer

STAGE = "screening"
TRAINING_FILE = "training_file"
UNSAFE = "unsafe_training_file"


def screen(desk: Desk) -> Path:
    """The file to train on. Raises InvalidTrainingFile when the policy refuses it, or Interruption."""
    if desk.order.training_key is None:
        raise NotFound("This job has no training file.", param=TRAINING_FILE)
    training_file = desk.store.path(desk.order.training_key)
    desk.enter(STAGE)
    rule = ScreenConfig.from_dict(desk.settings.screening_rules)
    gate_files, harmful_files = known_prompts(desk)
    directory = run_trainer(
        desk,
        STAGE,
        "screen",
        {
            "base": desk.order.base,
            "training_file": training_file,
            "judge": desk.settings.judge,
            "config": rule.to_dict(),
            "gate_files": gate_files,
            "harmful_files": harmful_files,
            "dtype": desk.settings.dtype,
            "device": desk.settings.device,
        },
    )
    report = json.loads((directory / "report.json").read_text("utf-8"))
    _record(desk, report, rule)
    policy = desk.settings.screening
    refuse_if_too_many(rows_to("block", report, policy, rule), report["n"], rule.block_percent)
    dropped = rows_to("drop", report, policy, rule)
    return without_rows(training_file, dropped, directory / "kept.jsonl") if dropped else training_file


def rows_to(action: Action, report: dict[str, Any], policy: Action, rule: ScreenConfig) -> list[dict[str, Any]]:
    """The rows of the report that `action` is for: flagged ones by the policy, unscored ones by the rule."""
    return [
        row
        for row in found_rows(report)
        if (policy == action and row["reason"] != UNSCORED) or (rule.unscored == action and row["unread"])
    ]


def known_prompts(desk: Desk) -> tuple[list[str], list[str]]:
    """Files of gate prompts and of harmful ones: those of the settings, and what the job's vaccine has besides.

    Without a setting the gate draws from the demo set.
    """
    settings, vaccine = desk.settings, _vaccine(desk)
    gate = _with_kept(desk, vaccine, GATE_PROMPTS, settings.gate_prompts_file or demo_file("gate_prompts"))
    return gate, _with_kept(desk, vaccine, HARMFUL, settings.harmful_file)


def _with_kept(desk: Desk, vaccine: Vaccine | None, role: str, path: Path | None) -> list[str]:
    """A file of the settings and, if its content is another, the vaccine's of the same role.

    Equal files count once: else a job that waited for its vaccine would be screened again.
    """
    found = [] if path is None else [str(path)]
    if vaccine is not None and role in vaccine.files and vaccine.digests.get(role) != _digest(path):
        found.append(str(desk.store.path(vaccine.files[role])))
    return found


def _digest(path: Path | None) -> str | None:
    try:
        return None if path is None else file_digest(path)
    except OSError:  # the screening itself says which file is missing
        return None


def _vaccine(desk: Desk) -> Vaccine | None:
    with desk.reading() as session:
        vaccines = AdminVaccineRepository(session)
        pinned = desk.order.vaccine_id
        return vaccines.get(pinned) if pinned else vaccines.active(desk.order.base)


def _record(desk: Desk, report: dict[str, Any], rule: ScreenConfig) -> None:
    """Keep the rows with findings for the job's owner and tell the numbers, once for one screening."""
    policy = desk.settings.screening
    summary = summarise(report, policy, rule.block_percent, rule.unscored)
    with desk.reading() as session:
        known = ScreeningRepository(session).get(desk.order.id)
    if known is not None and known.summary == summary:
        return
    stored = desk.store.put_file("reports", io.BytesIO(json.dumps({**report, "rows": _only_found(report)}).encode()))
    with desk.fenced() as session:
        ScreeningRepository(session).put(
            desk.order.id, attempt=desk.claim.attempt, report_key=stored.key, summary=summary
        )
        level = "warn" if summary["rows"] else "info"
        desk.tell_in(session, _words(report, policy, rule), level=level, data={"screening": summary})
    if known is not None:
        desk.store.delete(known.report_key)


def _words(report: dict[str, Any], policy: Action, rule: ScreenConfig) -> str:
    """The numbers in one sentence."""
    words = f"Screening: {report['flagged']} of {report['n']} training rows flagged (policy: {policy})"
    unscored = report["unscored"]
    if not unscored["n"]:
        return words
    kinds = ", ".join(f"{name} {n}" for name, n in unscored["reasons"].items())
    return f"{words}; {unscored['n']} that the judge cannot read: {kinds} (policy: {rule.unscored})"


def _only_found(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Scores of rows without findings are kept from whoever tries how far he can go."""
    return [row for row in report["rows"] if row["flagged"] or row.get("unread")]


def refuse_if_too_many(rows: list[dict[str, Any]], n: int, limit: float) -> None:
    """Raise InvalidTrainingFile when `rows` are more than `limit` percent of n; details: one a row."""
    if 100 * len(rows) <= limit * n:
        return
    unscored = sum(row["reason"] == UNSCORED for row in rows)
    faults = {"look harmful": len(rows) - unscored, "are in a language or script that the judge cannot read": unscored}
    said = " and ".join(f"{count} of {n} training rows {fault}" for fault, count in faults.items() if count)
    raise InvalidTrainingFile(
        f"{said}; this server refuses more than {limit:g} % of such rows. `details` and the job's screening name"
        " them: take them out and upload the file again.",
        param=TRAINING_FILE,
        code=UNSAFE,
        details=[_detail(row) for row in rows],
    )


def _detail(row: dict[str, Any]) -> dict[str, Any]:
    """What is wrong with one row, for the error of the job."""
    place = f"messages[{row['turn']}].content"
    if row["reason"] == UNSCORED:
        message = f"The judge cannot read this ({row['unread']}); take the row out."
        return {"path": place, "code": "row_unscored", "message": message, **row}
    message = f"The row was flagged ({row['reason']}); take it out."
    return {"path": place, "code": "row_flagged", "message": message, **row}


def without_rows(training_file: Path, rows: list[dict[str, Any]], target: Path) -> Path:
    """Write the file without these rows to `target`. Raises InvalidTrainingFile when too few are left."""
    dropped = {row["line"] for row in rows}
    kept = [row for row in require_valid(read_rows_file(training_file)) if row.line not in dropped]
    write_rows(kept, target)
    require_valid(read_rows_file(target))
    return target
