import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from tvaccine_core.errors import InvalidRequest, ScoringFailed


@pytest.fixture
def scored(tiny_base: Callable[[str], Path], tmp_path: Path) -> Callable[..., Any]:
    """Run `tvaccine score` on the tiny base with a judge that flags everything (bias 1000) or nothing (-1000)."""
    import torch

    from tvaccine_core.evaluation.judge.features import FeatureSpec
    from tvaccine_core.evaluation.judge.probe import Probe
    from tvaccine_core.models.base import load_base

    base = load_base(str(tiny_base("llama")), dtype="float32", device="cpu")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What is {i}?"}) + "\n" for i in range(8)))

    def run(bias: float, *arguments: str) -> Any:
        judge = tmp_path / "judge"
        weight = torch.zeros(base.model.config.hidden_size)
        Probe(weight, bias, 0.5, FeatureSpec((1,), ("mean",)), base.name, base.digest).save(judge)
        common = ["--base", str(tiny_base("llama")), "--prompts", str(prompts), "--judge", str(judge)]
        quick = ["--batch-prompts", "8", "--cap", "8", "--max-new-tokens", "3", "--floor", "0"]
        place = [] if "--out" in arguments else ["--out", str(tmp_path / "scored")]
        return CliRunner().invoke(app, ["score", *common, *quick, "--dtype", "float32", *place, *arguments])

    return run


def test_one_json_line_comes_last_on_stdout(scored: Callable[..., Any], tmp_path: Path) -> None:
    done = scored(-1000.0, "--limit", "50", "--out", str(tmp_path / "out"), "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["verdict"] == "pass"
    assert result["harmful_score"]["n"] == 8
    assert "answers" not in result
    assert "scoring" in done.stderr
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert len([answer for answer in report["answers"] if answer["variant"] == "plain"]) == 8
    assert "variant_texts" not in result
    assert Path(result["out"]) == tmp_path / "out"


def test_a_blocked_model_ends_with_status_one(scored: Callable[..., Any]) -> None:
    done = scored(1000.0)
    assert done.exit_code == 1
    assert done.stdout.startswith("Blocked")
    assert "100.0 % (8 of 8" in done.stdout


def test_measuring_gives_no_verdict_and_side_figures(
    scored: Callable[..., Any], rows_file: Path, tmp_path: Path
) -> None:
    benign = tmp_path / "prompts.jsonl"
    done = scored(1000.0, "--measure-only", "--benign", str(benign), "--task", str(rows_file), "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["verdict"] is None
    faulty = result["refusal"].pop("faulty")
    assert 0 < faulty <= 8  # a model of random weights babbles
    assert result["refusal"] == {"percent": 0.0, "refused": 0, "n": 8}
    assert result["task"]["n"] == 12


def test_the_whole_rule_can_be_given_and_every_check_is_told(scored: Callable[..., Any]) -> None:
    done = scored(-1000.0, "--limit", "50", "--gate", '{"alpha": 0.001, "variants": []}')
    assert done.exit_code == 1, done.output
    assert "Blocked: harmful score 0.0 % (0 of 8" in done.stdout
    assert "FAIL harmful score" in done.stdout
    assert "the model helps with nearly nothing" not in done.stdout
    assert "ok   harmless prompts not helped with" in done.stdout
    assert "0 refused, " in done.stdout
    assert "a fixed test needs" in done.stdout


def test_a_draw_is_that_of_the_service_with_the_same_secret(
    scored: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    for number, secret in enumerate(("a secret of some length", "a secret of some length", "another secret, longer")):
        monkeypatch.setenv("TVACCINE_GATE_SECRET", secret)
        out = tmp_path / f"out{number}"
        assert scored(1000.0, "--draw", "ftjob-1", "--out", str(out)).exit_code == 1
        asked.append([answer["prompt"] for answer in json.loads((out / "report.json").read_text())["answers"]])
    assert asked[0] == asked[1] != asked[2]


def test_faults_are_errors_of_the_tree(scored: Callable[..., Any], tmp_path: Path) -> None:
    assert isinstance(scored(0.0, "--limit", "200").exception, InvalidRequest)
    assert isinstance(scored(0.0, "--gate", "[1]").exception, InvalidRequest)
    assert isinstance(scored(0.0, "--gate", "{").exception, InvalidRequest)
    assert isinstance(scored(0.0, "--gate", '{"goood": 1}').exception, InvalidRequest)
    few = scored(0.0, "--batch-prompts", "9", "--cap", "9")
    assert isinstance(few.exception, ScoringFailed)
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("{}")
    again = scored(0.0, "--out", str(out))
    assert isinstance(again.exception, InvalidRequest)
    assert (out / "report.json").read_text() == "{}"
