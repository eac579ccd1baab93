from pathlib import Path

import pytest

from service.settings import Settings, load_settings
from tvaccine_core.errors import InvalidRequest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("TVACCINE_")]:
        monkeypatch.delenv(name)


def test_directories_lie_under_the_data_directory(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "d")
    assert settings.artefacts_dir == tmp_path / "d" / "artefacts"
    assert settings.scratch_dir == tmp_path / "d" / "scratch"
    assert settings.broker_dir == tmp_path / "d" / "broker"
    assert settings.database_url == f"sqlite:///{tmp_path / 'd' / 'tvaccine.sqlite3'}"
    settings.make_directories()
    assert settings.scratch_dir.stat().st_mode & 0o077 == 0


def test_the_environment_sets_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {
        "DATA_DIR": str(tmp_path),
        "SCRATCH_DIR": "/fast/scratch",
        "DATABASE_URL": "postgresql://u@h/d",
        "ALLOWED_BASES": "a, org/b",
        "BASE": "a",
        "PORT": "9000",
        "GATE": '{"limit": 5}',
        "HOST": "",
        "ALIGNMENT_FILE": "~/rows.jsonl",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"TVACCINE_{name}", value)
    settings = load_settings()
    assert settings.scratch_dir == Path("/fast/scratch")
    assert settings.allowed_bases == ["a", "org/b"]
    assert (settings.port, settings.gate, settings.host) == (9000, {"limit": 5}, "127.0.0.1")
    assert settings.alignment_file == Path("~/rows.jsonl").expanduser()


def test_a_judges_directory_is_made_absolute_and_other_names_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings().judge is None
    for name, kept in (("mine", str(tmp_path / "mine")), ("llama-guard-3:a/b", "llama-guard-3:a/b"), ("any(", "any(")):
        monkeypatch.setenv("TVACCINE_JUDGE", name)
        assert load_settings().judge == kept


def test_the_base_is_allowed_by_default_and_no_env_file_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("TVACCINE_BASE=other\n")
    settings = load_settings()
    assert settings.allowed_bases == [settings.base] == ["smollm2-135m-instruct"]


def test_wrong_settings_are_all_named_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVACCINE_PORT", "eighty")
    monkeypatch.setenv("TVACCINE_SCREENING", "maybe")
    monkeypatch.setenv("TVACCINE_RENEW_SECONDS", "20")
    with pytest.raises(InvalidRequest) as caught:
        load_settings()
    for name in ("TVACCINE_PORT", "TVACCINE_SCREENING", "TVACCINE_RENEW_SECONDS"):
        assert name in caught.value.message
    assert caught.value.code == "invalid_settings"


@pytest.mark.parametrize(("name", "value"), [("GATE", "not json"), ("ALLOWED_BASES", " , "), ("BASE", "")])
def test_values_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    if name == "BASE":
        with pytest.raises(InvalidRequest):
            load_settings(base=value)
        return
    monkeypatch.setenv(f"TVACCINE_{name}", value)
    with pytest.raises(InvalidRequest, match=f"TVACCINE_{name}"):
        load_settings()


def test_settings_cannot_be_changed() -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        Settings().port = 1


@pytest.mark.parametrize("rules", ['{"block_percent": 200}', '{"share": 5}', '{"threshold": "high"}', "[]", "{"])
def test_screening_rules_are_checked_when_a_process_starts(monkeypatch: pytest.MonkeyPatch, rules: str) -> None:
    monkeypatch.setenv("TVACCINE_SCREENING_RULES", rules)
    with pytest.raises(InvalidRequest, match="TVACCINE_SCREENING_RULES"):
        load_settings()


def test_a_policy_that_there_is_not_is_named_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVACCINE_POLICY", "t_vaccine_lisa")
    assert load_settings().policy == "t_vaccine_lisa"
    monkeypatch.setenv("TVACCINE_POLICY", "magic")
    with pytest.raises(InvalidRequest, match=r"TVACCINE_POLICY: .*'t_vaccine' or 't_vaccine_lisa'"):
        load_settings()
