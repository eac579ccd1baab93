"""What a scored job leaves in the store: its report with the training's loss, and a picture."""

import json
import logging

import pytest

from service.db.engine import transaction
from service.db.repositories.evaluations import EvaluationRepository
from service.safety_reports import read_document, read_picture, read_report
from tests.worker.conftest import Shop

LOSS = [[step, round(1 / step, 6)] for step in range(1, 9)]


def report_key(shop: Shop, job_id: str) -> str:
    with transaction(shop.runtime.sessions) as session:
        (scoring,) = EvaluationRepository(session).list(job_id)
    return scoring.report_key


def test_a_scored_job_has_a_report_with_its_loss_and_a_picture(shop: Shop) -> None:
    shop.plan(score={"2": "whole"})
    job_id = shop.queue()
    shop.work()
    key = report_key(shop, job_id)
    assert shop.store.names(key) == ["report.json", "report.png"]
    document = read_document(shop.store, key, full=False)
    assert document.training is not None
    assert [list(point) for point in document.training.loss] == LOSS
    assert (document.outcome, document.before_repair) == ("quarantined", None)
    assert len(read_report(shop.store, key)["answers"]) == 4
    assert "SECRET" not in document.model_dump_json()
    picture = read_picture(shop.store, key)
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert b"SECRET" not in picture
    assert "SECRET" not in json.dumps(shop.job(job_id).verdict)


def test_the_loss_of_a_resumed_training_is_whole(shop: Shop) -> None:
    shop.plan(fine_tune={"2": "crash"}, score={"3": "whole"})
    job_id = shop.queue()
    shop.work()
    assert shop.job(job_id).attempt == 3
    assert read_report(shop.store, report_key(shop, job_id))["training"] == {"loss": LOSS}


def test_a_verdict_does_not_hang_on_a_picture(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    # The fake trainer's short report cannot be drawn.
    with caplog.at_level(logging.WARNING):
        job_id = shop.queue()
        shop.work()
    assert shop.job(job_id).state == "succeeded"
    key = report_key(shop, job_id)
    assert shop.store.names(key) == ["report.json"]
    assert read_picture(shop.store, key) is None
    assert read_report(shop.store, key)["outcome"] == "released"
    assert read_report(shop.store, key)["before_repair"] is None
    assert f"the safety report of {job_id} has no picture: InvalidRequest" in caplog.text
    assert "SECRET" not in caplog.text
