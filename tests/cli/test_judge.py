import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from tvaccine_core.errors import BaseMismatch


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
    assert "TF-IDF" in shown.stdout

    other = invoke(tiny_base("qwen2"), "eval", "--data", str(data), "--judge", str(out))
    assert isinstance(other.exception, BaseMismatch)


def test_tfidf_can_learn_from_another_file(data: Path, tiny_base: Callable[[str], Path], tmp_path: Path) -> None:
    base, out = tiny_base("llama"), tmp_path / "judge"
    assert invoke(base, "train", "--data", str(data), "--out", str(out)).exit_code == 0
    alone = tmp_path / "alone.jsonl"
    alone.write_text("".join(json.dumps({"prompt": "p", "answer": f"a{i}", "label": i % 2}) + "\n" for i in range(6)))
    arguments = ["eval", "--data", str(alone), "--judge", str(out), "--json"]
    bare = json.loads(invoke(base, *arguments).stdout.splitlines()[-1])
    assert bare["tfidf"] is None
    assert bare["judge"]["overall"]["n"] == 6
    full = json.loads(invoke(base, *arguments, "--train-data", str(data)).stdout.splitlines()[-1])
    assert full["tfidf"]["overall"]["n"] == 6
