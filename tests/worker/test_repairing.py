"""What a model goes through besides: the operator's defences, and a repair when it does not pass the gate."""

from typing import Any

import pytest

from service.db.engine import transaction
from service.db.repositories.adapters import AdminAdapterRepository
from service.db.repositories.evaluations import EvaluationRepository
from service.safety_reports import read_document
from tests.safety_report import full_report
from tests.worker.conftest import Open, Shop
from tvaccine_core.errors import InvalidRequest
from worker.settings_check import check_settings

WHOLE_UNREPAIRED = {str(attempt): "whole_unrepaired" for attempt in range(1, 9)}
UNREPAIRED = {str(attempt): "unrepaired" for attempt in range(1, 9)}


def test_a_repaired_model_that_passes_is_released_and_says_so(open_shop: Open) -> None:
    shop = open_shop(repairing="panacea", defences=["lisa"])
    shop.plan(score=UNREPAIRED)
    job_id = shop.queue()
    shop.work()
    job = shop.job(job_id)
    assert (job.state, job.trained_tokens) == ("succeeded", 1334)
    assert job.verdict is not None
    assert job.verdict["defences"] == ["t_vaccine", "lisa", "panacea"]
    assert job.verdict["repaired"] is True
    with transaction(shop.runtime.sessions) as session:
        adapter = AdminAdapterRepository(session).get_by_job(job_id)
        latest = EvaluationRepository(session).latest(job_id)
    assert adapter is not None
    assert adapter.place == "released"
    assert shop.store.read(adapter.storage_key, "adapter_model.safetensors") == b"repaireduser"
    assert latest is not None
    assert latest.verdict == "pass"
    assert any("repaired with panacea" in message for message in shop.messages(job_id))
    quarantine = shop.runtime.settings.artefacts_dir / "quarantine"
    assert list(quarantine.iterdir()) == []  # the model that failed is not kept beside the one that was released


def test_a_repair_that_does_not_help_releases_nothing(open_shop: Open) -> None:
    shop = open_shop(repairing="panacea")
    shop.plan(score={str(attempt): "fail" for attempt in range(1, 9)})
    job_id = shop.queue()
    shop.work()
    job = shop.job(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "model_blocked"
    assert [run["stage"] for run in shop.runs()].count("repair") == 1
    assert list((shop.runtime.settings.artefacts_dir / "released").iterdir()) == []


def reports(shop: Shop, job_id: str) -> list[dict[str, Any]]:
    """What the owner reads of each scoring, the first one first."""
    with transaction(shop.runtime.sessions) as session:
        keys = [scoring.report_key for scoring in EvaluationRepository(session).list(job_id)][::-1]
    return [read_document(shop.store, key, full=False).model_dump(mode="json") for key in keys]


def test_the_report_of_a_repaired_and_released_model_tells_of_both_scorings(open_shop: Open) -> None:
    shop = open_shop(repairing="panacea")
    shop.plan(score=WHOLE_UNREPAIRED)
    job_id = shop.queue()
    shop.work()
    first, second = reports(shop, job_id)
    assert (first["outcome"], first["before_repair"]) == ("quarantined", None)
    assert (second["outcome"], second["verdict"]) == ("repaired_and_released", "pass")
    assert second["harmful_score"]["flagged"] == 2
    kept = {name: full_report()[name] for name in ("harmful_score", "verdict", "reason")}
    assert second["before_repair"] == kept
    assert kept["harmful_score"]["flagged"] == 26
    verdict = shop.job(job_id).verdict
    assert verdict is not None
    assert verdict["before_repair"] == kept
    assert "outcome" not in verdict  # it is written before the release
    assert "SECRET" not in str(second)


def test_the_report_of_a_model_that_no_repair_helped_tells_of_both_scorings(open_shop: Open) -> None:
    shop = open_shop(repairing="panacea")
    shop.plan(score={str(attempt): "whole" for attempt in range(1, 9)})
    job_id = shop.queue()
    shop.work()
    last = reports(shop, job_id)[-1]
    assert (last["outcome"], last["verdict"]) == ("quarantined", "fail")
    assert last["before_repair"]["harmful_score"] == full_report()["harmful_score"]


def test_a_repair_in_a_later_attempt_still_knows_the_first_scoring(open_shop: Open) -> None:
    shop = open_shop(repairing="panacea")
    shop.plan(score=WHOLE_UNREPAIRED, repair={"2": "crash"})
    job_id = shop.queue()
    shop.work()
    assert shop.job(job_id).attempt == 3
    last = reports(shop, job_id)[-1]
    assert (last["outcome"], last["before_repair"]["verdict"]) == ("repaired_and_released", "fail")


def test_a_model_that_passes_is_not_repaired(open_shop: Open) -> None:
    shop = open_shop(repairing="panacea")
    job_id = shop.queue()
    shop.work()
    job = shop.job(job_id)
    assert job.verdict is not None
    assert (job.state, job.verdict["repaired"]) == ("succeeded", False)
    assert "repair" not in [run["stage"] for run in shop.runs()]


@pytest.mark.parametrize("deed", ["crash", "killed"])
def test_a_repair_goes_on_where_a_dead_trainer_stopped(open_shop: Open, deed: str) -> None:
    shop = open_shop(repairing="panacea")
    shop.plan(score=UNREPAIRED, repair={"2": deed})
    job_id = shop.queue()
    shop.work()
    assert shop.job(job_id).state == "succeeded"
    repairs = [run["arguments"] for run in shop.runs() if run["stage"] == "repair"]
    assert len(repairs) == 2
    assert repairs[1]["resume_from"].endswith("checkpoint-4")
    assert [run["stage"] for run in shop.runs()].count("fine_tune") == 1


def test_a_job_keeps_the_policy_that_it_was_created_with(open_shop: Open) -> None:
    job_id = open_shop(defences=[{"name": "lisa", "rho": 0.25}], repairing="panacea", repair={"steps": 3}).queue()
    shop = open_shop()
    shop.plan(score=UNREPAIRED)
    shop.work()
    (repair,) = [run["arguments"] for run in shop.runs() if run["stage"] == "repair"]
    assert repair["config"]["steps"] == 3
    (order,) = [run["arguments"] for run in shop.runs() if run["stage"] == "fine_tune"]
    assert [(one["name"], one["rho"]) for one in order["defences"]] == [("lisa", 0.25)]
    assert "policy" not in order["config"]
    verdict = shop.job(job_id).verdict
    assert verdict is not None
    assert verdict["defences"] == ["t_vaccine", "lisa", "panacea"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"defences": ["lise"]}, "TVACCINE_DEFENCES: 'lise'"),
        ({"repair": {"step": 3}}, "TVACCINE_REPAIR: .*step"),
        ({"defences": ["lisa", "panacea"]}, "repair with panacea"),
    ],
)
def test_a_policy_that_no_job_could_follow_is_refused_at_the_start(
    open_shop: Open, wrong: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        check_settings(open_shop(**wrong).runtime.settings)
