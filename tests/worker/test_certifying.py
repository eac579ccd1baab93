"""Vaccinations that end with an attack on the vaccine: what is kept of it, and who may use a vaccine that failed."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.db.engine import transaction
from service.db.models import Vaccine
from service.db.repositories.audit import AdminAuditRepository
from service.db.repositories.vaccines import AdminVaccineRepository
from service.vaccines import activate, request_vaccination
from tests.tvaccine_core.certificate.conftest import Scene, scene, small  # noqa: F401 - one is a fixture
from tests.worker.conftest import BASE, Open, Shop
from tests.worker.test_trainer import start
from tvaccine_core.data.datasets import demo_file
from tvaccine_core.errors import Conflict, DatasetOverlap, InvalidRequest
from worker.settings_check import check_settings

ALWAYS = [str(attempt) for attempt in range(1, 9)]


def vaccines(shop: Shop) -> list[Vaccine]:
    """Oldest first."""
    with transaction(shop.runtime.sessions) as session:
        return list(AdminVaccineRepository(session).list())[::-1]


def vaccinate(shop: Shop, **request: Any) -> Vaccine:
    """Ask for a vaccine and have a worker make it."""
    with transaction(shop.runtime.sessions) as session:
        vaccine, _ = request_vaccination(session, shop.runtime.settings, BASE, **request)
    shop.work()
    return next(one for one in vaccines(shop) if one.id == vaccine.id)


def test_by_default_no_certificate_is_made(shop: Shop) -> None:
    shop.queue()
    shop.work()
    assert "certify" not in [run["stage"] for run in shop.runs()]
    assert "certificate" not in (vaccines(shop)[0].report or {})


def test_a_certificate_is_stored_with_the_vaccine(open_shop: Open) -> None:
    shop = open_shop(certificate="made", judge="embedded")
    job_id = shop.queue()
    shop.work()
    assert shop.job(job_id).state == "succeeded"
    (vaccine,) = vaccines(shop)
    assert vaccine.active
    assert vaccine.report is not None
    assert vaccine.report["steps"] == 8
    assert vaccine.report["certificate"]["verdict"] == "passed"
    assert vaccine.report["certificate"]["vaccine_sha256"] == vaccine.sha256
    key = str(vaccine.storage_key)
    assert {"certificate.json", "certificate.png", "adapter_model.safetensors"} <= set(shop.store.names(key))
    assert "steps" in json.loads(shop.store.read(key, "report.json"))  # the alignment's
    messages = shop.messages(str(vaccine.job_id))
    assert messages.index("Stage: vaccinating") < messages.index("Stage: certifying")
    assert "Certificate: passed" in messages


def test_the_attack_gets_the_vaccine_with_its_own_data_and_the_operators(open_shop: Open, tmp_path: Path) -> None:
    rows = demo_file("attack").read_text().splitlines(keepends=True)
    own = tmp_path / "own_attack.jsonl"
    own.write_text("".join(rows[:60]))
    shop = open_shop(
        certificate="made",
        certificate_rules={"prompts": 7, "fine_tune": {"epochs": 2}},
        certificate_files={"harmful": own},
        fine_tune={"lora_r": 4},
    )
    vaccine = vaccinate(shop)
    (order,) = [run["arguments"] for run in shop.runs() if run["stage"] == "certify"]
    kept = {role: str(shop.store.path(key)) for role, key in vaccine.files.items()}
    assert (order["alignment_file"], order["probe_file"], order["prompts_file"]) == (
        kept["alignment"],
        kept["harmful"],
        kept["gate_prompts"],
    )
    assert (order["harmful_file"], order["task_file"]) == (str(own), str(demo_file("task_train")))
    assert order["vaccine_dir"].endswith("attempt-1/vaccinating")
    trained = order["config"]["fine_tune"]
    # As a user of this server trains, but for what the rules say.
    assert (trained["lora_r"], trained["epochs"], order["config"]["prompts"]) == (4, 2, 7)


@pytest.mark.parametrize("deed", ["crash", "killed"])
def test_a_certificate_goes_on_where_a_dead_trainer_stopped(open_shop: Open, deed: str) -> None:
    shop = open_shop(certificate="made")
    shop.plan(certify={"1": deed})
    vaccine = vaccinate(shop)
    assert vaccine.state == "ready"
    orders = [run for run in shop.runs() if run["stage"] == "certify"]
    assert len(orders) == 2
    assert orders[1]["arguments"]["resume_from"].endswith("attempt-2/certifying/checkpoints/checkpoint-4")
    assert [run["stage"] for run in shop.runs()].count("align") == 1


@pytest.mark.parametrize("deed", ["other_adapter", "no_verdict", "bad_data"])
def test_a_vaccine_without_a_verdict_on_it_is_not_used(open_shop: Open, deed: str) -> None:
    shop = open_shop(certificate="made")
    shop.plan(certify=dict.fromkeys(ALWAYS, deed))
    job_id = shop.queue()
    shop.work()
    assert vaccines(shop)[0].state == "failed"
    error = shop.job(job_id).error
    assert error is not None
    assert error["code"] == "vaccination_failed"


def test_a_failed_certificate_is_only_told_where_none_is_required(open_shop: Open) -> None:
    shop = open_shop(certificate="made")
    shop.plan(certify=dict.fromkeys(ALWAYS, "fail"))
    job_id = shop.queue()
    shop.work()
    assert shop.job(job_id).state == "succeeded"
    (vaccine,) = vaccines(shop)
    assert vaccine.active
    assert vaccine.report is not None
    assert vaccine.report["certificate"]["verdict"] == "failed"


def test_where_one_is_required_a_passed_certificate_activates(open_shop: Open) -> None:
    shop = open_shop(certificate="required")
    job_id = shop.queue()
    shop.work()
    assert shop.job(job_id).state == "succeeded"
    assert vaccines(shop)[0].active


def test_where_one_is_required_a_failed_certificate_lets_no_job_run(open_shop: Open) -> None:
    shop = open_shop(certificate="required")
    shop.plan(certify=dict.fromkeys(ALWAYS, "fail"))
    jobs = [shop.queue(), shop.queue()]
    shop.work()
    (vaccine,) = vaccines(shop)
    assert (vaccine.state, vaccine.active) == ("ready", False)
    for job_id in jobs:
        job = shop.job(job_id)
        assert job.state == "failed"
        assert job.error is not None
        assert job.error["code"] == "vaccination_failed"
        assert "did not pass its certificate" in job.error["message"]
    assert "fine_tune" not in [run["stage"] for run in shop.runs()]
    with transaction(shop.runtime.sessions) as session:
        latest = AdminAuditRepository(session).list()[0]
        assert (latest.action, latest.subject) == ("vaccine.activate_refused", vaccine.id)
        with pytest.raises(Conflict) as refused:
            activate(session, shop.runtime.settings, vaccine.id, "key_1")
    assert refused.value.code == "vaccine_not_certified"


def test_a_failed_new_version_leaves_the_earlier_one_in_use(open_shop: Open) -> None:
    shop = open_shop(certificate="required")
    first = vaccinate(shop, activate=True)
    assert first.active
    shop.plan(certify={"1": "fail"})
    second = vaccinate(shop, activate=True, config={"seed": 3})
    assert [one.active for one in vaccines(shop)] == [True, False]
    job_id = shop.queue()
    shop.work()
    assert (shop.job(job_id).state, shop.job(job_id).vaccine_id) == ("succeeded", first.id)
    assert second.state == "ready"


def test_a_vaccine_from_before_the_rule_is_not_used_any_more(open_shop: Open) -> None:
    before = open_shop()
    uncertified = vaccinate(before, activate=True)
    shop = open_shop(certificate="required")
    job_id = shop.queue()
    shop.work()
    error = shop.job(job_id).error
    assert error is not None
    assert error["code"] == "vaccination_failed"
    assert f"Vaccine {uncertified.id} has no certificate" in error["message"]
    certified = vaccinate(shop, activate=True)
    again = shop.queue()
    shop.work()
    assert (shop.job(again).state, shop.job(again).vaccine_id) == ("succeeded", certified.id)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"certificate_rules": {"prompt": 3}}, "TVACCINE_CERTIFICATE_RULES: prompt is no setting"),
        ({"certificate_rules": {"attacks": [{"name": "magic"}]}}, r"TVACCINE_CERTIFICATE_RULES: attacks\[0\]"),
        ({"certificate_rules": {"fine_tune": {"epochs": 0}}}, "TVACCINE_CERTIFICATE_RULES: epochs"),
    ],
)
def test_rules_that_no_certificate_could_follow_are_refused_at_the_start(
    open_shop: Open, wrong: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        check_settings(open_shop(**wrong).runtime.settings)


def test_data_that_no_certificate_could_be_made_of_are_refused_before_anything_is_trained(
    open_shop: Open, tmp_path: Path
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(demo_file("attack").read_text().splitlines(keepends=True)[:12]))
    seen = open_shop().runtime.settings.harmful_file
    for path, error in ((few, InvalidRequest), (seen, DatasetOverlap)):
        shop = open_shop(certificate="made", certificate_files={"harmful": path})
        with pytest.raises(error, match="TVACCINE_CERTIFICATE_FILES") as refused:
            vaccinate(shop)
        assert "harmful" in str(refused.value)
    assert shop.runs() == []


def test_the_real_trainer_certifies_a_real_vaccine(scene: Scene, tmp_path: Path) -> None:  # noqa: F811
    place = {"base": scene.base, "vaccine_dir": scene.vaccine, "chat_file": None, "out": tmp_path / "out"}
    config = small(stock="off", clean_limit=100, attack_limit=100, over_refusal_limit=100)
    child = start(tmp_path, "certify", {**scene.arguments(**place), "config": config.to_dict()})
    assert child.wait(240) == 0, (tmp_path / "log").read_text()
    told = json.loads((tmp_path / "out/report.json").read_text())
    assert told["verdict"] == "passed"
    assert {"certificate.json", "certificate.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
