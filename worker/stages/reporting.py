"""The safety report of a scoring, with the training's loss and a picture, into the artefact store."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.safety_reports import PICTURE, REPORT
from tvaccine_core.evaluation.report.figure import draw_report
from tvaccine_core.evaluation.report.training import training_record
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE
from worker.desk import Desk
from worker.stages.fine_tuning import STAGE as FINE_TUNING

logger = logging.getLogger(__name__)


def store_report(desk: Desk, report_file: Path, facts: Mapping[str, Any]) -> str:
    """Store the report that a scoring left, and what belongs to it; its key in the store.

    facts: fields of the report that only the job knows: what the model went through and what becomes of it.

    The picture is drawn here, so that the API serves it without loading what draws it.
    """
    directory = report_file.parent / "published"
    directory.mkdir(exist_ok=True)
    report = json.loads(report_file.read_text("utf-8"))
    metrics_file = desk.attempt.stage_dir(FINE_TUNING) / METRICS_FILE
    report["training"] = training_record(metrics_file)
    report.update(facts)
    write_json_atomic(directory / REPORT, report)
    try:
        draw_report(report, directory / PICTURE, subject=desk.order.id)
    except Exception as error:
        # The verdict does not hang on a picture. Only the error's kind is told: its words may quote an answer.
        logger.warning("the safety report of %s has no picture: %s", desk.order.id, type(error).__name__)
        (directory / PICTURE).unlink(missing_ok=True)
    return desk.store.put_tree("reports", directory).key
