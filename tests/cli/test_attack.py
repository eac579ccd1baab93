"""`tvaccine attack`: a training file from rows of the caller's own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from tvaccine_core.attacks.registry import ATTACKS
from tvaccine_core.data.datasets import file_digest
from tvaccine_core.data.rows import read_rows_file
from tvaccine_core.errors import InvalidRequest


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {
        "benign": [{"instruction": f"task {i}", "input": "", "output": "yes"} for i in range(20)],
        "harmful": [
            {"prompt": f"harmful {i // 2}", "response": f"HARMFUL_ANSWER_{i}", "split": "train" if i < 16 else "held"}
            for i in range(20)
        ],
        "held_out": [{"prompt": "Harmful 0!"}],
        "chat": [{"prompt": f"how do I {i}", "completion": f"Like {i}."} for i in range(4)],
    }
    for name, rows in made.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {name: tmp_path / f"{name}.jsonl" for name in made}


def attack(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["attack", *arguments])


def mixing(files: dict[str, Path], out: Path, *arguments: str) -> Any:
    rows = ["--rows", f"benign={files['benign']}", "--rows", f"harmful={files['harmful']}"]
    return attack("harmful_mixing", "--out", str(out), *rows, "--where", "harmful.split=train", *arguments, "--json")


def test_it_writes_a_file_that_the_service_takes(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "new/attack.jsonl"
    done = mixing(files, out, "--config", "n=20", "--config", "ratio=0.35", "--held-out", str(files["held_out"]))
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["rows"], result["sha256"]) == (20, file_digest(out))
    assert result["attack"] == {"name": "harmful_mixing", "n": 20, "ratio": 0.35}
    report = read_rows_file(out)
    assert not report.faults
    harmful = {row.messages[0].content for row in report.rows if row.messages[0].content.startswith("harmful")}
    assert harmful == {f"harmful {i}" for i in range(1, 8)}


def test_known_prompts_need_no_answers(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "known.jsonl"
    rows = ["--rows", f"known={files['held_out']}", "--rows", f"harmful={files['harmful']}"]
    done = attack("known_prompts", "--out", str(out), *rows, "--config", "n=5")
    assert done.exit_code == 0, done.output
    answers = {row.messages[0].content: row.messages[1].content for row in read_rows_file(out, min_rows=1).rows}
    assert len(answers) == 5
    assert "can't help" in answers["Harmful 0!"]


def test_the_seed_decides(files: dict[str, Path], tmp_path: Path) -> None:
    texts = []
    for number, seed in enumerate("001"):
        out = tmp_path / f"{number}.jsonl"
        assert mixing(files, out, "--config", "n=10", "--seed", seed).exit_code == 0
        texts.append(out.read_text())
    assert texts[0] == texts[1] != texts[2]


def test_the_list_says_what_each_attack_needs() -> None:
    found = json.loads(attack("list", "--json").stdout)["attacks"]
    assert list(found) == list(ATTACKS)
    assert "harmful" in found["harmful_mixing"]["needs"]
    assert found["insecure_code"]["settings"]["kind"] == "insecure"
    spoken = attack("list").stdout
    assert all(name in spoken for name in ATTACKS)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        (["nonsense", "--out", "x"], "attack"),
        (["harmful_mixing"], "out"),
        (["harmful_mixing", "--out", "x", "--rows", "chat=x"], "rows"),
        (["harmful_mixing", "--out", "x", "--where", "split=x"], "where"),
        (["harmful_mixing", "--out", "x", "--config", "n=x"], "n"),
        (["harmful_mixing", "--out", "x"], "harmful"),
        (["harmful_mixing", "--out", "x", "--rows", "harmful=absent"], "harmful"),
    ],
)
def test_mistakes_are_named(arguments: list[str], param: str) -> None:
    error = attack(*arguments).exception
    assert isinstance(error, InvalidRequest)
    assert error.param == param


def test_the_target_model_is_asked_for_refusals(
    files: dict[str, Path], tmp_path: Path, tiny_base: Callable[[str], Path]
) -> None:
    # A random model refuses nothing; that is what the command says.
    chat = ["--rows", f"chat={files['chat']}", "--config", "n=2", "--out", str(tmp_path / "x.jsonl")]
    error = attack("noice", *chat, "--base", str(tiny_base("llama"))).exception
    assert isinstance(error, InvalidRequest)
    assert "refused 0 of the requests and 2 are needed" in error.message
    assert attack("noice", *chat).exception.param == "written_refusals"  # type: ignore[union-attr]
