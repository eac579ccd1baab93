from pathlib import Path

import pytest

from tests.tvaccine_core.evaluation.judge.test_calibrated import FOUND
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.judge.names import (
    FORMS,
    JudgeName,
    absolute_judge,
    calibrated_name,
    parse_judge,
    require_gate_name,
    require_judge_name,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("embedded", JudgeName("embedded")),
        (" keyword ", JudgeName("keyword")),
        ("judges/mine", JudgeName("directory", "judges/mine")),
        ("classifier:PKU-Alignment/beaver-dam-7b", JudgeName("classifier", "PKU-Alignment/beaver-dam-7b")),
        ("classifier:a/b@refs/pr/1", JudgeName("classifier", "a/b", "refs/pr/1")),
        ("llama-guard-3:/models/lg@3", JudgeName("llama-guard-3", "/models/lg@3")),
        ("moderations:https://api.openai.com/v1/", JudgeName("moderations", "https://api.openai.com/v1")),
        (
            "moderations-answer:http://localhost:8000/v1#omni",
            JudgeName("moderations-answer", "http://localhost:8000/v1", "omni"),
        ),
        ("keyword@f.json", JudgeName("keyword", calibration="f.json")),
        ("judges/mine@ /k/f.json", JudgeName("directory", "judges/mine", calibration="/k/f.json")),
        ("classifier:a/b@f.json", JudgeName("classifier", "a/b", calibration="f.json")),
        ("classifier:a/b@refs/pr/1@./f.json", JudgeName("classifier", "a/b", "refs/pr/1", calibration="./f.json")),
        (
            "moderations:https://h/v1#omni@f.json",
            JudgeName("moderations", "https://h/v1", "omni", calibration="f.json"),
        ),
        (
            "any(embedded@e.json, keyword)@f.json",
            JudgeName(
                "any", members=(JudgeName("embedded", calibration="e.json"), JudgeName("keyword")), calibration="f.json"
            ),
        ),
        (
            "majority(embedded, any(keyword, judges/mine), wildguard:a/b)",
            JudgeName(
                "majority",
                members=(
                    JudgeName("embedded"),
                    JudgeName("any", members=(JudgeName("keyword"), JudgeName("directory", "judges/mine"))),
                    JudgeName("wildguard", "a/b"),
                ),
            ),
        ),
    ],
)
def test_names_are_read_and_written_back(text: str, expected: JudgeName) -> None:
    name = parse_judge(text)
    assert name == expected
    assert parse_judge(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "any(embedded)",
        "all()",
        "any(embedded, )",
        "any",
        "classifier",
        "classifier:",
        "moderations:ftp://host/v1",
        "moderations:host/v1",
        "moderations:https://user:secret@host/v1",
        "any(embedded, keyword",
        "most(embedded, keyword)",
        "nowhere-to-be-found",
        "all(embedded, shieldgemma:./no/such/place)",
        "@f.json",
        "keyword@f.json@g.json",
        "embedded, keyword@f.json",
    ],
)
def test_anything_else_is_refused_and_the_forms_are_named(text: str) -> None:
    with pytest.raises(InvalidRequest, match="llama-guard-3:REPO_OR_DIRECTORY") as caught:
        require_judge_name(text)
    assert FORMS in caught.value.message
    assert caught.value.param == "judge"


def test_a_keyword_list_never_decides(tmp_path: Path) -> None:
    for text in ("keyword", "any(embedded, keyword)", f"all({tmp_path}, any(keyword, embedded))"):
        assert require_judge_name(text).comparison_only
        with pytest.raises(InvalidRequest, match="for comparison only"):
            require_gate_name(text)
    assert not require_gate_name(f"any(embedded, {tmp_path})").comparison_only


def test_a_calibration_is_read_before_it_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    for text in (f"embedded@{file}", f"any(embedded, {tmp_path}@{file})"):
        file.unlink(missing_ok=True)
        with pytest.raises(InvalidRequest, match="holds no calibration"):
            require_judge_name(text)
        FOUND.write(file)
        assert str(require_gate_name(text)) == text
    with pytest.raises(InvalidRequest, match="for comparison only"):
        require_gate_name(f"any(embedded, keyword@{file})")


def test_a_calibration_takes_the_place_of_another() -> None:
    assert calibrated_name("keyword", Path("f.json")) == "keyword@f.json"
    assert calibrated_name("classifier:a/b@main@f.json", Path("g.json")) == "classifier:a/b@main@g.json"
    for file in ("f.txt", "a@b/f.json", "a,b.json", "(a).json"):
        with pytest.raises(InvalidRequest, match=r"end in \.json") as caught:
            calibrated_name("keyword", Path(file))
        assert caught.value.param == "out"


def test_directories_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert absolute_judge("mine") == str(tmp_path / "mine")
    assert absolute_judge("any(embedded, org/model)") == f"any(embedded, {tmp_path / 'org/model'})"
    # A hub id stays one unless there is such a directory.
    assert absolute_judge("classifier:org/other") == "classifier:org/other"
    assert absolute_judge("classifier:org/model") == f"classifier:{tmp_path / 'org/model'}"
    assert absolute_judge("wildguard:~/w") == f"wildguard:{Path('~/w').expanduser()}"
    assert absolute_judge("moderations:https://h/v1#m") == "moderations:https://h/v1#m"
    home = Path("~/f.json").expanduser()
    assert absolute_judge("any(embedded@f.json, mine@~/f.json)@g.json") == (
        f"any(embedded@{tmp_path}/f.json, {tmp_path}/mine@{home})@{tmp_path}/g.json"
    )
    assert absolute_judge("any(") == "any("
