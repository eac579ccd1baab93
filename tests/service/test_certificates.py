"""What a vaccine may do with and without a certificate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service import certificates, vaccines
from service.configurations import certificate_config
from service.db.engine import read_transaction, transaction
from service.db.models import Vaccine
from service.db.repositories.audit import AdminAuditRepository
from service.db.repositories.vaccines import AdminVaccineRepository
from service.settings import Settings, load_settings
from tests.certificates import failed, passed
from tests.service.test_vaccines import claim, complete, job, read, request
from tvaccine_core.data.datasets import demo_file
from tvaccine_core.errors import Conflict, InvalidRequest, Unavailable

Factory = sessionmaker[Session]
WEIGHTS = "ab"  # what `complete` says of every vaccine
OWN = {"alignment": "alignment", "harmful": "probe", "gate_prompts": "gate_prompts"}


@pytest.fixture
def required(settings: Settings) -> Settings:
    return settings.model_copy(update={"certificate": "required"})


def summary(made: Callable[..., Any], settings: Settings, **more: Any) -> dict[str, Any]:
    """Of a certificate made by the rules of these settings from the shipped data."""
    rules = certificates.current_rules(settings, {role: demo_file(name) for role, name in OWN.items()})
    found: dict[str, Any] = made(sha256=WEIGHTS, rules=rules, **more).summary().model_dump(mode="json")
    return found


def test_a_passed_certificate_activates_and_stays_in_the_report(factory: Factory, required: Settings) -> None:
    vaccine, made_by = request(factory, required, activate=True)
    told = summary(passed, required)
    complete(factory, required, made_by.id, certificate=told)
    ready = read(factory, vaccine.id)
    assert (ready.state, ready.active) == ("ready", True)
    assert ready.report == {"steps": 1, "certificate": told}
    assert certificates.summary_of(ready) == told


@pytest.mark.parametrize("kind", ["none", "failed", "of other weights"])
def test_where_one_is_required_nothing_else_activates(
    factory: Factory, required: Settings, queue_job: Callable[..., str], kind: str
) -> None:
    told = {
        "none": None,
        "failed": summary(failed, required),
        "of other weights": {**summary(passed, required), "vaccine_sha256": "cd"},
    }[kind]
    taken = claim(factory, queue_job())
    with transaction(factory) as session:
        assert vaccines.take_vaccine(session, required, taken) is None  # it waits
    vaccine_id = str(job(factory, taken.job_id).vaccine_id)
    complete(factory, required, str(read(factory, vaccine_id).job_id), certificate=told)
    vaccine = read(factory, vaccine_id)
    assert (vaccine.state, vaccine.active, vaccine.activate_when_ready) == ("ready", False, True)
    waiting = job(factory, taken.job_id)
    assert waiting.state == "failed"
    assert waiting.error is not None
    assert "certificate" in waiting.error["message"]
    with transaction(factory) as session, pytest.raises(Conflict, match="certificate") as refused:
        vaccines.activate(session, required, vaccine_id, "key_1")
    assert (refused.value.code, refused.value.status) == ("vaccine_not_certified", 409)
    with read_transaction(factory) as session:
        actions = {entry.action for entry in AdminAuditRepository(session).list()}
    assert actions == {"vaccine.request", "vaccine.activate_refused"}


@pytest.mark.parametrize("policy", ["off", "made"])
def test_where_none_is_required_a_failed_one_hinders_nothing(factory: Factory, settings: Settings, policy: str) -> None:
    lax = settings.model_copy(update={"certificate": policy})
    vaccine, made_by = request(factory, lax, activate=True)
    complete(factory, lax, made_by.id, certificate=summary(failed, lax))
    assert read(factory, vaccine.id).active


def test_an_earlier_version_is_the_way_back(factory: Factory, required: Settings) -> None:
    made = []
    for seed in (1, 2):
        vaccine, made_by = request(factory, required, config={"seed": seed}, activate=True)
        complete(factory, required, made_by.id, certificate=summary(passed, required))
        made.append(vaccine.id)
    assert [read(factory, one).active for one in made] == [False, True]
    with transaction(factory) as session:
        assert vaccines.activate(session, required, made[0], "key_1").active
    assert [read(factory, one).active for one in made] == [True, False]
    with read_transaction(factory) as session:
        latest = AdminAuditRepository(session).list()[0]
    assert (latest.action, latest.actor, latest.subject) == ("vaccine.activate", "key_1", made[0])


def test_a_vaccine_that_was_active_before_the_rule_serves_no_job(
    factory: Factory, settings: Settings, required: Settings, queue_job: Callable[..., str]
) -> None:
    vaccine, made_by = request(factory, settings, activate=True)
    complete(factory, settings, made_by.id)
    taken = claim(factory, queue_job())
    words = f"Vaccine {vaccine.id} has no certificate"
    with transaction(factory) as session, pytest.raises(Unavailable, match=words) as refused:
        vaccines.take_vaccine(session, required, taken)
    assert refused.value.code == "vaccination_failed"
    with transaction(factory) as session:
        assert vaccines.take_vaccine(session, settings, taken) is not None  # the rule decides, not the job


def test_a_vaccine_that_failed_is_not_made_again_for_every_job(
    factory: Factory, required: Settings, settings: Settings, queue_job: Callable[..., str]
) -> None:
    _, made_by = request(factory, required, activate=True)
    complete(factory, required, made_by.id, certificate=summary(failed, required))
    taken = claim(factory, queue_job())
    words = "did not pass its certificate"
    with transaction(factory) as session, pytest.raises(Unavailable, match=words) as refused:
        vaccines.take_vaccine(session, required, taken)
    assert refused.value.code == "vaccination_failed"
    # Other rules, or another vaccine, may end otherwise.
    for change in ({"certificate_rules": {"attack_limit": 90}}, {"vaccine": {"seed": 9}}, {"certificate": "made"}):
        with transaction(factory) as session:
            fresh = vaccines.ensure_vaccine(session, required.model_copy(update=change), "tiny")
            assert fresh.state == "making"
            session.rollback()
    with read_transaction(factory) as session:
        assert len(AdminVaccineRepository(session).list("tiny")) == 1


def test_a_failed_one_of_an_administrator_is_no_obstacle_to_his_next(factory: Factory, required: Settings) -> None:
    first, made_by = request(factory, required)
    complete(factory, required, made_by.id, certificate=summary(failed, required))
    assert request(factory, required)[0].version == first.version + 1


def test_the_attackers_training_is_that_of_the_servers_users(settings: Settings) -> None:
    changed = settings.model_copy(
        update={
            "save_every": 7,
            "fine_tune": {"epochs": 5, "lora_r": 4},
            "certificate_rules": {"fine_tune": {"epochs": 9}, "clean_limit": 12},
        }
    )
    config = certificate_config(changed)
    trained = config.training(config.attacks[0])
    assert (trained.save_every, trained.epochs, trained.lora_r, config.clean_limit) == (7, 9, 4, 12)


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TVACCINE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TVACCINE_CERTIFICATE", "required")
    monkeypatch.setenv("TVACCINE_CERTIFICATE_RULES", '{"prompts": 5}')
    monkeypatch.setenv("TVACCINE_CERTIFICATE_FILES", '{"chat": "chat.jsonl"}')
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.certificate == "required"
    assert certificate_config(settings).prompts == 5
    assert settings.certificate_files == {"chat": tmp_path / "chat.jsonl"}
    files = certificates.certificate_files(settings, {role: demo_file(name) for role, name in OWN.items()})
    assert (files.chat, files.harmful) == (tmp_path / "chat.jsonl", demo_file("attack"))
    for name, value in (("", "maybe"), ("_FILES", '{"gate": "x"}'), ("_RULES", "3")):
        monkeypatch.setenv(f"TVACCINE_CERTIFICATE{name}", value)
        with pytest.raises(InvalidRequest, match=f"TVACCINE_CERTIFICATE{name}") as refused:
            load_settings()
        assert refused.value.code == "invalid_settings"
        monkeypatch.delenv(f"TVACCINE_CERTIFICATE{name}")


def test_a_vaccine_says_nothing_of_a_certificate_that_it_has_not() -> None:
    assert certificates.summary_of(Vaccine(report=None)) is None
    assert certificates.summary_of(Vaccine(report={"steps": 1})) is None
