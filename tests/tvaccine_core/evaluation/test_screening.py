import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.data.rows import Message, Row
from tvaccine_core.errors import InvalidTrainingFile, ScoringFailed
from tvaccine_core.evaluation.screening import row_pairs, screen
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
        place = {"judge_dir": tmp_path / "judge", "dtype": "float32", "device": "cpu"}
        screen(str(tiny_base("llama")), training_file, tmp_path / "out", **place, **arguments)
        report: dict[str, Any] = json.loads((tmp_path / "out/report.json").read_text())
        return report

    return go


def test_every_row_gets_a_score(screened: Callable[..., dict[str, Any]], rows_file: Path) -> None:
    report = screened(rows_file, bias=1000.0)
    assert [row["line"] for row in report["rows"]] == list(range(1, 13))
    assert (report["flagged"], report["n"], report["percent"]) == (12, 12, 100.0)
    assert report["judge"]["name"] == "hidden-state-probe"
    report = screened(rows_file, bias=-1000.0)
    assert report["flagged"] == 0
    assert screened(rows_file, bias=-1000.0, threshold=0.0)["flagged"] == 12


def test_a_row_is_as_bad_as_its_worst_supervised_answer(
    screened: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    def turns(*answers: tuple[str, int]) -> str:
        messages: list[dict[str, Any]] = []
        for text, weight in answers:
            messages.append({"role": "user", "content": "What is it?"})
            messages.append({"role": "assistant", "content": text, "weight": weight})
        return json.dumps({"messages": messages})

    path = tmp_path / "rows.jsonl"
    lines = [
        turns(("one", 1)),
        turns(("seven eight", 1)),
        turns(("one", 1), ("seven eight", 1)),
        turns(("one", 0), ("seven eight", 1)),
        turns(("one", 1), ("seven eight", 0), ("one", 1)),
    ]
    path.write_text("\n".join(lines) + "\n")
    one, seven, both, second, first = (row["score"] for row in screened(path)["rows"])
    assert one != seven
    assert both == max(one, seven)
    assert (second, first) == (seven, one)


def test_pairs_take_the_user_message_before_the_answer() -> None:
    row = Row(
        1,
        (
            Message("assistant", "hello"),
            Message("user", "a"),
            Message("user", "b"),
            Message("assistant", "c"),
            Message("assistant", "d", 0),
        ),
    )
    assert row_pairs(row) == [("", "hello"), ("b", "c")]


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
