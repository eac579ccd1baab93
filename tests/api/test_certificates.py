"""Certificates of vaccines, for admins: seen, asked for, and held against a vaccine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from api.context import Context
from service.settings import Settings
from service.vaccines import complete_vaccination
from tests.certificates import failed, passed
from tvaccine_core.certificate.document import Certificate, parse_certificate

PATH = "/v1/admin/vaccinations"
PICTURE = b"\x89PNG picture"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A server that requires a certificate."""
    return settings.model_copy(update={"certificate": "required"})


Finish = Callable[..., None]


@pytest.fixture
def http(http: TestClient, new_key: Callable[..., str]) -> TestClient:
    """A plain client of an administrator."""
    http.headers["authorization"] = f"Bearer {new_key('operations', 'admin')}"
    return http


@pytest.fixture
def finish(context: Context, worker: Any, tmp_path: Path) -> Finish:
    """Does what a worker does for a vaccination, with a certificate that `made` makes of the stored weights."""

    def run(vaccination: dict[str, Any], made: Callable[..., Certificate] | None, *, drawn: bool = True) -> None:
        claim = worker.claim(vaccination["job_id"])
        folder = tmp_path / vaccination["id"]
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(vaccination["id"].encode())
        stored = context.store.put_tree("vaccines", folder)
        document = None if made is None else made(sha256=stored.sha256)
        if document is not None:
            (folder / "certificate.json").write_text(document.model_dump_json(by_alias=True))
        if drawn and document is not None:
            (folder / "certificate.png").write_bytes(PICTURE)
        stored = context.store.put_tree("vaccines", folder)
        with context.write() as session:
            assert complete_vaccination(
                session,
                context.settings,
                claim,
                storage_key=stored.key,
                sha256=stored.sha256,
                base_digest="sha256:1",
                report={"steps": 80},
                certificate=None if document is None else document.summary().model_dump(mode="json"),
            )

    return run


def ask(http: TestClient, **body: Any) -> dict[str, Any]:
    answer = http.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_certificate_is_shown_in_short_as_a_document_and_as_a_picture(http: TestClient, finish: Finish) -> None:
    made = ask(http, activate="auto")
    assert made["certificate"] is None
    assert http.get(f"{PATH}/{made['id']}/certificate").status_code == 404
    finish(made, passed)
    shown = http.get(f"{PATH}/{made['id']}").json()
    assert (shown["state"], shown["active"]) == ("ready", True)
    assert (shown["certificate"]["verdict"], shown["certificate"]["harmful_score"]) == ("passed", 0.0)
    assert [one["label"] for one in shown["certificate"]["attacks"]] == [
        "harmful_mixing_10",
        "harmful_mixing_20",
        "identity_shift",
    ]
    assert shown["report"] == {"steps": 80}
    document = http.get(f"{PATH}/{made['id']}/certificate")
    assert parse_certificate(document.json()) == passed(sha256=shown["sha256"])
    picture = http.get(f"{PATH}/{made['id']}/certificate.png")
    assert (picture.content, picture.headers["content-type"]) == (PICTURE, "image/png")
    assert "no-store" in picture.headers["cache-control"]


def test_what_there_is_not_is_404_with_a_reason(http: TestClient, finish: Finish) -> None:
    for path in ("/vac_unknown/certificate", "/vac_unknown/certificate.png"):
        assert http.get(PATH + path).status_code == 404
    made = ask(http)
    finish(made, None)
    for name in ("certificate", "certificate.png"):
        answer = http.get(f"{PATH}/{made['id']}/{name}")
        assert answer.status_code == 404
        assert "certificate" in answer.json()["error"]["message"]
    undrawn = ask(http, config={"seed": 2})
    finish(undrawn, passed, drawn=False)
    assert http.get(f"{PATH}/{undrawn['id']}/certificate").status_code == 200
    assert http.get(f"{PATH}/{undrawn['id']}/certificate.png").status_code == 404


@pytest.mark.parametrize("made_by", [None, failed])
def test_a_vaccine_that_is_not_certified_cannot_be_activated(
    http: TestClient, finish: Finish, made_by: Callable[..., Certificate] | None
) -> None:
    made = ask(http, activate="auto")
    finish(made, made_by)
    assert http.get(f"{PATH}/{made['id']}").json()["active"] is False
    answer = http.post(f"{PATH}/{made['id']}/activate")
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "vaccine_not_certified"
    assert "requires" in error["message"]
    assert ("harmful_mixing_20" in error["message"]) is (made_by is not None)  # what it did not withstand


def test_activation_is_automatic_or_by_hand_and_goes_back(http: TestClient, finish: Finish) -> None:
    wishes = {"auto": True, "manual": False, True: True, False: False}
    made = {}
    for seed, (wish, expected) in enumerate(wishes.items()):
        made[wish] = ask(http, activate=wish, config={"seed": seed})
        assert made[wish]["activate_when_ready"] is expected
        finish(made[wish], passed)
        assert http.get(f"{PATH}/{made[wish]['id']}").json()["active"] is expected
    # Back to the first version: the one after it is no longer active.
    back = http.post(f"{PATH}/{made['auto']['id']}/activate").json()
    assert (back["version"], back["active"]) == (1, True)
    listed = http.get(PATH).json()["data"]
    assert [one["version"] for one in listed if one["active"]] == [1]
    for wrong in ("sometimes", 2, None):
        answer = http.post(PATH, json={"activate": wrong})
        assert (answer.status_code, answer.json()["error"]["param"].startswith("activate")) == (400, True)


def test_only_administrators_see_a_certificate(http: TestClient, finish: Finish, alice: openai.OpenAI) -> None:
    made = ask(http)
    finish(made, passed)
    for name in ("certificate", "certificate.png"):
        with pytest.raises(openai.PermissionDeniedError):
            alice.get(f"/admin/vaccinations/{made['id']}/{name}", cast_to=object)


def test_the_document_of_the_api_describes_them(app: FastAPI) -> None:
    schema = app.openapi()
    components = schema["components"]["schemas"]
    assert set(components["Certificate"]["required"]) >= {"schema", "verdict", "checks", "clean", "attacks"}
    paths = schema["paths"]
    assert "image/png" in paths[f"{PATH}/{{vaccine_id}}/certificate.png"]["get"]["responses"]["200"]["content"]
    (either,) = [one for one in components["VaccinationCreate"]["properties"]["activate"]["anyOf"] if "enum" in one]
    assert either["enum"] == ["auto", "manual"]


def test_a_server_without_the_rule_takes_any(settings: Settings, finish: Finish, http: TestClient) -> None:
    made = ask(http)
    finish(made, failed)
    lax = create_app(settings.model_copy(update={"certificate": "made"}))
    with TestClient(lax, headers=dict(http.headers)) as client:
        assert client.post(f"{PATH}/{made['id']}/activate").json()["active"] is True
