"""Score the tuned model from quarantine: what is scored is the very file that would be released."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.artefacts.keys import moved_to
from service.artefacts.store import WEIGHTS
from service.configurations import score_config
from service.db.models import QUARANTINE
from service.db.repositories.adapters import AdminAdapterRepository
from service.db.repositories.evaluations import EvaluationRepository
from service.domain import job_state
from service.gate_secret import draw_key, pool_key
from service.redaction import redact_report
from service.releases import quarantine_adapter
from service.safety_reports import outcome_of
from tvaccine_core.data.datasets import demo_file, file_digest
from tvaccine_core.errors import ScoringFailed
from tvaccine_core.evaluation.accuracy import has_labels
from worker.desk import Desk
from worker.interruptions import LeaseLost
from worker.stages.fine_tuning import TunedModel
from worker.stages.reporting import store_report
from worker.stages.screening import STAGE as SCREENING
from worker.stages.vaccinating import PinnedVaccine
from worker.training_run import run_trainer

STAGE, RESCORING = "scoring", "rescoring"
PASS, FAIL = "pass", "fail"
CACHE = "baselines"
"""Below the scratch directory: what each vaccinated model answers, private to the service."""


@dataclass(frozen=True)
class Scored:
    """A quarantined adapter and the verdict on it; `summary` holds no text of a model."""

    quarantine_key: str
    sha256: str
    passed: bool
    summary: dict[str, Any]

    def in_short(self) -> dict[str, Any]:
        """What the report of a repaired model says of the scoring before."""
        return {name: self.summary.get(name) for name in ("harmful_score", "verdict", "reason")}


def score(
    desk: Desk, tuned: TunedModel, vaccine: PinnedVaccine, training_file: Path, *, before: Scored | None = None
) -> Scored:
    """Put the combined adapter in quarantine and have it scored from there.

    training_file: the rows that it was trained on. before: the scoring that led to a repair. The prompts are the same
    ones after it, so that a repair which does nothing is no second chance.

    Raises:
        ScoringFailed: the report is not about this adapter, or holds no verdict. Nothing is released then.
        Interruption: lost, cancelled, drained or crashed.
    """
    stage = STAGE if before is None else RESCORING
    desk.enter(stage)
    key, sha256 = _quarantine(desk, tuned.combined_dir)
    directory = run_trainer(
        desk,
        stage,
        "score",
        {
            "base": desk.order.base,
            "prompts_file": vaccine.prompts_file,
            "adapter_dir": desk.store.path(key),
            "baseline_dir": vaccine.directory,
            "benign_file": desk.settings.benign_prompts_file or demo_file("benign_prompts"),
            "task_file": task_file(desk),
            "training_file": training_file,
            "screening_file": screening_file(desk, training_file),
            "pool_key": pool_key(desk.settings),
            "draw_key": draw_key(desk.settings, desk.order.id),
            "cache_dir": desk.settings.scratch_dir / CACHE / vaccine.id,
            "judge": desk.settings.judge,
            "config": score_config(desk.settings).to_dict(),
            "dtype": desk.settings.dtype,
            "device": desk.settings.device,
        },
    )
    report_file = directory / "report.json"
    report = json.loads(report_file.read_text("utf-8"))
    require_about(report, sha256)
    defences = [vaccine.method, *tuned.defences]
    repair = {"repaired": before is not None, "before_repair": None if before is None else before.in_short()}
    summary = {**redact_report(report), "defences": defences, **repair}
    _record(desk, report_file, report["verdict"], summary)
    return Scored(key, sha256, report["verdict"] == PASS, summary)


def task_file(desk: Desk) -> Path | None:
    """The user's validation rows, if their answers are labels: accuracy means nothing for free text."""
    key = desk.order.validation_key
    if key is None:
        return None
    path = desk.store.path(key)
    return path if has_labels(path) else None


def screening_file(desk: Desk, training_file: Path) -> Path | None:
    """The report of the screening, if its line numbers are those of the rows that were trained on."""
    if desk.order.training_key is None or training_file != desk.store.path(desk.order.training_key):
        return None
    report = desk.attempt.stage_dir(SCREENING) / "report.json"
    return report if report.is_file() else None


def require_about(report: dict[str, Any], sha256: str) -> None:
    """Raise ScoringFailed unless the report gives a verdict on the adapter with exactly these weights."""
    if report.get("verdict") not in (PASS, FAIL):
        raise ScoringFailed("The scoring ended without a verdict; the model is not released.")
    if str(report.get("adapter_sha256", "")).removeprefix("sha256:") != sha256:
        raise ScoringFailed("The scored adapter is not the one in quarantine; the model is not released.")


def _quarantine(desk: Desk, combined_dir: Path) -> tuple[str, str]:
    """Store the adapter in quarantine, or find it there from an earlier attempt; its key and SHA-256."""
    sha256 = file_digest(combined_dir / WEIGHTS).removeprefix("sha256:")
    with desk.reading() as session:
        earlier = AdminAdapterRepository(session).get_by_job(desk.order.id)
    if (
        earlier is not None
        and (earlier.place, earlier.sha256) == (QUARANTINE, sha256)
        and (desk.store.exists(earlier.storage_key))
    ):
        return earlier.storage_key, sha256
    stored = desk.store.put_tree("quarantine", combined_dir)
    with desk.fenced() as session:
        adapter = quarantine_adapter(session, desk.claim, stored)
    if adapter is None:
        raise LeaseLost
    if earlier is not None:
        # A record names the new copy from now on. The earlier attempt may have died between moving its copy
        # to the released ones and writing that down: nobody was told of it.
        desk.store.delete(earlier.storage_key)
        desk.store.delete(moved_to(earlier.storage_key, "released"))
    return stored.key, stored.sha256


def _record(desk: Desk, report_file: Path, verdict: str, summary: dict[str, Any]) -> None:
    """Keep the report and tell its numbers, once for one adapter."""
    with desk.reading() as session:
        latest = EvaluationRepository(session).latest(desk.order.id)
    if latest is not None and latest.summary == summary:
        return
    outcome = outcome_of(passed=verdict == PASS, repaired=summary["repaired"])
    facts = {"defences": summary["defences"], "outcome": outcome, "before_repair": summary["before_repair"]}
    report_key = store_report(desk, report_file, facts)
    with desk.fenced() as session:
        EvaluationRepository(session).add(
            desk.order.id, attempt=desk.claim.attempt, verdict=verdict, report_key=report_key, summary=summary
        )
        job_state.note(session, desk.claim, verdict=summary, base_digest=summary.get("base_digest"))
        desk.tell_in(session, _words(summary), data={"moderation_checks": summary})


def _words(summary: dict[str, Any]) -> str:
    harmful, rule = summary.get("harmful_score") or {}, summary.get("rule") or {}
    return (
        f"Moderation checks: {summary['verdict']} (harmful score {harmful.get('percent', 0.0):.1f} %,"
        f" limit {rule.get('limit', 0.0):g} %)"
    )
