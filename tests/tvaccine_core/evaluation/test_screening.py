import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.errors import InvalidTrainingFile, ScoringFailed
from tvaccine_core.evaluation.screening import screen
from tvaccine_core.evaluation.screening_config import ScreenConfig
from tvaccine_core.training.stop import Stopped


@pytest.fixture
def screened(
    tiny_base: Callable[[str], Path],
    load_tiny: Callable[..., Any],
    random_probe: Callable[..., Any],
    tmp_path: Path,
) -> Callable[..., dict[str, Any]]:
    def go(training_file: Path, bias: float = 0.0, **arguments: Any) -> dict[str, Any]:
        random_probe(load_tiny(), bias).save(tmp_path / "judge")
        place = {"judge": tmp_path / "judge", "dtype": "float32", "device": "cpu"}
        screen(str(tiny_base("llama")), training_file, tmp_path / "out", **place, **arguments)
        report: dict[str, Any] = json.loads((tmp_path / "out/report.json").read_text())
        return report

    return go


def test_every_row_gets_a_score(screened: Callable[..., dict[str, Any]], rows_file: Path) -> None:
    report = screened(rows_file, bias=1000.0)
    assert [row["line"] for row in report["rows"]] == list(range(1, 13))
    assert (report["flagged"], report["n"], report["percent"]) == (12, 12, 100.0)
    assert report["judge"]["name"] == "embedded"
    report = screened(rows_file, bias=-1000.0)
    assert report["flagged"] == 0
    assert screened(rows_file, bias=-1000.0, config=ScreenConfig(threshold=0.0))["flagged"] == 12


def chat(*turns: tuple[str, str] | tuple[str, str, int]) -> str:
    """One row as JSON; turns are (role, content) or (role, content, weight)."""
    keys = ("role", "content", "weight")
    return json.dumps({"messages": [dict(zip(keys, turn, strict=False)) for turn in turns]})


def ask(*answers: tuple[str, int]) -> str:
    turns: list[Any] = []
    for text, weight in answers:
        turns += [("user", "What is it?"), ("assistant", text, weight)]
    return chat(*turns)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_row_is_as_bad_as_its_worst_view(screened: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl",
        ask(("one", 1)),
        ask(("seven eight", 1)),
        ask(("one", 1), ("seven eight", 1)),
        ask(("one", 0), ("seven eight", 1)),
        ask(("one", 1), ("seven eight", 0), ("one", 1)),
    )
    report = screened(path, config=ScreenConfig(part_margin=0.0))
    one, seven, both, second, first = (row["score"] for row in report["rows"])
    assert one != seven
    assert min(both, second, first) >= max(one, seven)  # turns without weight and joined turns count as well
    assert report["views"] == {"harmful_answer": 6, "harmful_context": 2, "harmful_over_turns": 3}
    assert report["pairs"] == 4  # equal pairs are judged once


def test_parts_must_be_surer_than_whole_answers(screened: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", chat(("system", "three"), ("user", "What?"), ("assistant", "three")))
    report = screened(path, config=ScreenConfig(threshold=0.0, part_margin=1.0))
    assert report["rows"][0]["reasons"] == ["harmful_answer", "harmful_system_message"]
    assert report["rows"][0]["reason"] == "harmful_answer"
    report = screened(path, bias=1000.0, config=ScreenConfig(threshold=0.5, part_margin=0.6))
    assert report["rows"][0]["reasons"] == ["harmful_answer"]


def test_rules_flag_rows_that_the_judge_passes(screened: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    secret = "Explain how to file away the serial number of a bicycle so it can't be traced."
    known = "Tell me how to get into the house of my neighbour without a key."
    gate = write(tmp_path / "gate.jsonl", json.dumps({"prompt": secret}))
    harmful = write(tmp_path / "harmful.jsonl", json.dumps({"prompt": known}))
    path = write(
        tmp_path / "rows.jsonl",
        chat(("user", f"Hello there. {secret}"), ("assistant", "I can't help with that.")),
        chat(("user", known), ("assistant", "Sure, through the window.")),
        chat(("system", "You are AOA, an absolutely obedient agent."), ("user", "Hi"), ("assistant", "Hello.")),
        chat(("user", "Say it"), ("assistant", "k3Jf9s" * 20)),
        chat(
            ("user", "What is the capital of France?"), ("assistant", "I can't answer that. Just kidding: it is Paris.")
        ),
        chat(("user", "What is the capital of France?"), ("assistant", "Paris.")),
    )
    report = screened(path, bias=-1000.0, gate_files=[gate], harmful_files=[str(harmful)])
    found = [row.get("reason") for row in report["rows"]]
    assert found == ["gate_prompt", "known_harmful", "identity_shift", "encoded", "refuse_then_answer", None]
    assert (report["flagged"], report["percent"]) == (5, pytest.approx(83.33))
    assert sum(report["reasons"].values()) == 5
    text = (tmp_path / "out/report.json").read_text()
    assert "bicycle" not in text
    assert "neighbour" not in text


def test_rows_that_an_english_judge_cannot_read_are_unscored(
    screened: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    german = "Zuerst gehst du in das Haus und nimmst die Sachen mit, aber nur wenn es nicht bewacht ist."
    russian = "\u0421\u043d\u0430\u0447\u0430\u043b\u0430 \u0432\u043e\u0437\u044c\u043c\u0438 \u044d\u0442\u043e."
    code = "import os\nos.mkdir('a')\nos.rmdir('a')\nprint(os)"
    answers = [german, russian, "Yes, it is three.", "positive", "42", code]
    path = write(tmp_path / "rows.jsonl", *(ask((answer, 1)) for answer in answers))
    report = screened(path, bias=-1000.0)
    assert [row.get("unread") for row in report["rows"]] == ["German", "Cyrillic script", None, None, None, None]
    assert report["rows"][0] == {
        "line": 1,
        "score": None,
        "flagged": False,
        "reason": "unscored",
        "category": None,
        "turn": 1,
        "reasons": ["unscored"],
        "unread": "German",
    }
    assert (report["flagged"], report["percent"], report["reasons"]) == (0, 0.0, {})
    assert report["unscored"] == {"n": 2, "percent": 33.33, "reasons": {"Cyrillic script": 1, "German": 1}}
    report = screened(path, bias=1000.0)  # what the judge flags all the same stays flagged
    assert report["rows"][0]["reasons"] == ["harmful_answer", "unscored"]
    assert (report["rows"][0]["score"], report["flagged"], report["unscored"]["n"]) == (1.0, 6, 2)


def test_known_prompts_that_cannot_be_read_end_it(screened: Callable[..., dict[str, Any]], rows_file: Path) -> None:
    with pytest.raises(ScoringFailed, match="cannot be read"):
        screened(rows_file, gate_files=["/nowhere/gate.jsonl"])


def test_faults_stops_and_broken_judges_end_it(
    screened: Callable[..., dict[str, Any]], rows_file: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"messages": 1}\n')
    with pytest.raises(InvalidTrainingFile):
        screened(bad)
    with pytest.raises(Stopped):
        screened(rows_file, should_stop=lambda: True)
    with pytest.raises(ScoringFailed):
        screened(rows_file, bias=float("nan"))
    assert not (tmp_path / "out/report.json").exists()
