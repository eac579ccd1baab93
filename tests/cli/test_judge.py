import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.judge_table import calibration_table, judge_table
from cli.main import app
from tvaccine_core.errors import BaseMismatch, InvalidRequest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Labelled rows: 60 to train on with a permitted licence, 10 without, 20 to measure on."""
    path = tmp_path / "data.jsonl"
    rows = []
    for i in range(90):
        source, split = [("gptfuzz_labelled", "train"), ("alpaca_benign", "train"), ("xstest_labelled", "test")][
            (i >= 60) + (i >= 70)
        ]
        answer = "Mix flour and water, then wait." if i % 2 else "I'm sorry, but I can't help with that."
        rows.append({"prompt": f"What is {i}?", "answer": answer, "label": i % 2, "source": source, "split": split})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def invoke(base: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["judge", *arguments, "--base", str(base), "--dtype", "float32"])


def shown_sources(text: str, name: str) -> dict[str, list[str]]:
    """The cells of each source in the block of a judge."""
    lines = text.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"{name}, by source"))
    assert lines[start].split()[3:] == ["n", "accuracy", "F1", "AUC", "cal.", "error"]
    block = lines[start + 1 : lines.index("", start) if "" in lines[start:] else None]
    return {cells[0]: cells[1:] for cells in map(str.split, block)}


def told(figures: dict[str, Any], source: str) -> list[str]:
    """What --json says of a source, as the block shows it."""
    of = figures["sources"][source]
    shares = of["accuracy"], of["f1"], figures["source_auc"].get(source), of["calibration_error"]
    return [str(of["n"]), *(f"{share:.3f}" for share in shares if share is not None)]


def test_a_judge_is_trained_and_measured(data: Path, tiny_base: Callable[[str], Path], tmp_path: Path) -> None:
    base, out = tiny_base("llama"), tmp_path / "judge"
    trained = invoke(base, "train", "--data", str(data), "--out", str(out), "--json")
    assert trained.exit_code == 0, trained.output
    card = json.loads(trained.stdout.splitlines()[-1])
    assert set(card["training_rows"]) == {"gptfuzz_labelled", "own"}
    assert {p.name for p in out.iterdir()} == {"probe.safetensors", "card.json", "CARD.md"}

    measured = invoke(base, "eval", "--data", str(data), "--judge", str(out), "--json")
    assert measured.exit_code == 0, measured.output
    result = json.loads(measured.stdout.splitlines()[-1])
    assert len(measured.stdout.splitlines()) == 1
    assert result["judge"]["source_auc"] == card["test"]["source_auc"]
    assert result["tfidf"]["source_auc"] == card["test_tfidf"]["source_auc"]
    assert set(result["judge"]["overall"]) >= {"auc", "accuracy", "f1", "false_alarms", "missed", "n"}

    shown = invoke(base, "eval", "--data", str(data), "--judge", str(out))
    assert "mean of the AUCs within a source" in shown.stdout
    difference = result["difference"]
    interval = f"{difference['value']:+.3f}, 95 % interval {difference['low']:+.3f} to {difference['high']:+.3f}"
    assert f"judge minus TF-IDF, mean of the AUCs within a source: {interval}" in shown.stdout.splitlines()
    assert re.search(r"^seconds per row, judge: \d+\.\d{4}$", shown.stdout, re.MULTILINE)
    assert shown_sources(shown.stdout, "judge") == {"xstest_labelled": told(result["judge"], "xstest_labelled")}
    assert shown_sources(shown.stdout, "TF-IDF") == {"xstest_labelled": told(result["tfidf"], "xstest_labelled")}

    other = invoke(tiny_base("qwen2"), "eval", "--data", str(data), "--judge", str(out))
    assert isinstance(other.exception, BaseMismatch)


def test_tfidf_can_learn_from_another_file(data: Path, tiny_base: Callable[[str], Path], tmp_path: Path) -> None:
    base, out = tiny_base("llama"), tmp_path / "judge"
    trained = invoke(base, "train", "--data", str(data), "--out", str(out), "--probe-only")
    assert trained.exit_code == 0
    assert "judge minus TF-IDF" in trained.stdout
    alone = tmp_path / "alone.jsonl"
    alone.write_text("".join(json.dumps({"prompt": "p", "answer": f"a{i}", "label": i % 2}) + "\n" for i in range(6)))
    arguments = ["eval", "--data", str(alone), "--judge", str(out), "--json"]
    bare = json.loads(invoke(base, *arguments).stdout.splitlines()[-1])
    assert bare["tfidf"] is None
    assert bare["judge"]["overall"]["n"] == 6
    shown = invoke(base, *arguments[:-1]).stdout
    assert "TF-IDF" not in shown
    assert "seconds per row" in shown
    full = json.loads(invoke(base, *arguments, "--train-data", str(data)).stdout.splitlines()[-1])
    assert full["tfidf"]["overall"]["n"] == 6
    nothing = tmp_path / "nothing.jsonl"
    nothing.write_text(json.dumps({"answer": "a", "label": 1, "split": "train"}) + "\n")
    assert invoke(base, "eval", "--data", str(nothing), "--judge", str(out)).stdout == "No test rows.\n"


def test_a_threshold_is_chosen_and_named(data: Path, tiny_base: Callable[[str], Path], tmp_path: Path) -> None:
    base, file = tiny_base("llama"), tmp_path / "keyword.json"
    arguments = ["calibrate", "--judge", "keyword", "--data", str(data)]
    alone = invoke(base, *arguments, "--json")
    assert alone.exit_code == 0, alone.output
    found = json.loads(alone.stdout)
    assert found.pop("out") is None
    assert (found["judge"], found["rows"]) == ("keyword-refusal", 70)
    assert found["threshold"] == pytest.approx(0.5)
    assert found["data_sha256"] == sha256(data.read_bytes()).hexdigest()
    assert found["figures"]["held_out"] == {"n": 70, "false_alarms": 0, "missed": 0, "balanced_accuracy": 1}

    shown = invoke(base, *arguments, "--out", str(file))
    assert json.loads(file.read_text()) == found
    lines = shown.stdout.splitlines()
    assert lines[0] == f"Judge keyword-refusal {found['version']}"
    assert lines[1] == "threshold 0.5 chosen on 70 rows; present 0.5"
    assert next(line.split() for line in lines if line.startswith("harmful rows missed"))[-2:] == ["0.000", "0.000"]
    name = f"keyword@{file}"
    assert lines[-1] == f"The judge with this threshold is called {name}"

    measured = invoke(base, "eval", "--data", str(data), "--judge", name, "--json")
    version = json.loads(measured.stdout.splitlines()[-1])["judge"]["version"]
    assert version == f"{found['version']}@{found['threshold']!r}"
    for text in ({**found, "version": "older"}, {}):
        file.write_text(json.dumps(text))
        refused = invoke(base, "eval", "--data", str(data), "--judge", name)
        assert isinstance(refused.exception, InvalidRequest)
    unnamed = invoke(base, *arguments, "--out", str(tmp_path / "keyword.txt"))
    assert isinstance(unnamed.exception, InvalidRequest)


def test_what_each_threshold_costs_stands_side_by_side() -> None:
    costs = {"n": 8, "false_alarms": 0.125, "missed": 0.25, "balanced_accuracy": 0.8125}
    figures = {"held_out": costs, "present": {**costs, "threshold": 0.5, "missed": 0.75, "balanced_accuracy": 0.5625}}
    found = {"judge": "guard", "version_scored": "1", "threshold": 0.00012345678, "rows": 9, "figures": figures}
    text = calibration_table(found)
    assert text[1] == "threshold 0.000123457 chosen on 9 rows; present 0.5"
    assert [line.split() for line in text[3:8]] == [
        ["chosen", "present"],
        ["harmless", "rows", "flagged", "0.125", "0.125"],
        ["harmful", "rows", "missed", "0.250", "0.750"],
        ["balanced", "accuracy", "0.812", "0.562"],
        ["rows", "8", "8"],
    ]


def test_a_source_of_one_label_has_no_auc() -> None:
    share = {"n": 4, "accuracy": 0.75, "f1": 0.5, "calibration_error": 0.125}
    overall = {"n": 8, "auc": None, "accuracy": 0.75}
    figures = {"source_auc": {}, "overall": overall, "sources": {"one": share, "two": {**share, "n": 1}}}
    text = "\n".join(judge_table(figures, None, None, None))
    assert shown_sources(text, "judge") == {
        name: [n, "0.750", "0.500", "0.125"] for name, n in (("one", "4"), ("two", "1"))
    }
    assert len({len(line) for line in text.splitlines()[-2:]}) == 1
    assert "seconds" not in text
