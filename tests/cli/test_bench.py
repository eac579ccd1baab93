"""`tvaccine bench` as a user runs it: in processes of its own, killed and started again."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from tests.end_to_end.running_service import until
from tvaccine_core.data.rows import read_rows_file
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments.plan_file import read_plan
from tvaccine_core.experiments.summary import check_equal_attacks

TINY = Path(__file__).parents[2] / "bench" / "grids" / "tiny.yaml"
PICTURES = {
    "harmful-by-ratio-harmful_mixing-strong_tickets.png",
    "harmful-by-accuracy-harmful_mixing-strong_tickets.png",
    "basin-harmful_mixing-strong_tickets.png",
    "costs.png",
    "layers-T-Vaccine.png",
    "gradient-norms.png",
    "plane-harmful_mixing-strong_tickets-SFT.png",
    "plane-harmful_mixing-strong_tickets-T-Vaccine.png",
}


@pytest.fixture
def environment(tiny_base: Callable[[str], Path]) -> dict[str, str]:
    return {**os.environ, "TINY_BASE": str(tiny_base("llama")), "OMP_NUM_THREADS": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", "bench", *arguments, "--json"]


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), env=environment, capture_output=True, text=True, check=False)


def test_the_tiny_grid_survives_a_kill_and_draws_everything(environment: dict[str, str], tmp_path: Path) -> None:
    # T-Vaccine trains long enough to be killed in the middle, and saves often enough to go on from there.
    values = yaml.safe_load(TINY.read_text())
    values["methods"][1]["alignment"] |= {"steps": 60, "save_every": 5}
    grid = tmp_path / "tiny.yaml"
    grid.write_text(yaml.safe_dump(values))
    out = tmp_path / "out"

    def half_way() -> bool:
        return any(out.glob("vaccines/t_vaccine*/checkpoints/checkpoint-10/COMPLETE"))

    first = subprocess.Popen(command(str(grid), "--out", str(out)), env=environment, stdout=subprocess.DEVNULL)
    try:
        until(half_way, 240)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=30)
    assert not any(out.glob("vaccines/t_vaccine*/record.json"))
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/cell.json")}
    assert len(kept) == 1  # SFT's first cell was done

    done = run(environment, str(grid), "--out", str(out))
    assert done.returncode == 0, done.stderr
    told = result(done)
    assert (told["done"], told["new"], told["failed"]) == (4, 3, [])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    (vaccine,) = out.glob("vaccines/t_vaccine*")
    assert json.loads((vaccine / "record.json").read_text())["cost"]["resumed"] is True
    steps = [json.loads(line)["step"] for line in (vaccine / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 61))

    cells = read_plan(out).finished
    assert check_equal_attacks(cells) == 2
    rows = {(c.coordinates["ratio"], (c.record or {})["data"]["attack_rows"]["sha256"]) for c in cells}
    assert len(rows) == 2
    (poisoned,) = out.glob("attacks/harmful_mixing-0.2-*/rows.jsonl")
    assert len(read_rows_file(poisoned).rows) == 20

    markdown, table, single = (Path(path).read_text() for path in told["tables"])
    assert "| Method | benign | harmful_mixing 0.2 |" in markdown
    assert "| VISAGE | Drift |" in markdown
    assert {row["method"] for row in csv.DictReader(table.splitlines())} == {"SFT", "T-Vaccine"}
    assert [row["state"] for row in csv.DictReader(single.splitlines())] == ["done"] * 4
    assert {Path(path).name for path in told["figures"]} == PICTURES
    assert all(Path(path).stat().st_size > 5000 for path in told["figures"])

    (out / "table.md").unlink()
    drawn = CliRunner().invoke(app, ["bench", "--table", str(out)])
    assert drawn.exit_code == 0, drawn.output
    assert (out / "table.md").read_text() == markdown

    copy = tmp_path / "copy"
    shown = CliRunner().invoke(app, ["bench", "--table", str(out), "--publish", str(copy)])
    assert shown.exit_code == 0, shown.output
    assert (copy / "table.md").read_text() == markdown
    assert {path.name for path in (copy / "figures").iterdir()} == PICTURES
    assert {path.name for path in copy.iterdir()} == {
        "cells", "vaccines", "figures", "plan.json", "table.md", "table.csv", "cells.csv",
    }  # fmt: skip


def test_ctrl_c_ends_with_a_word_and_a_status(environment: dict[str, str], tmp_path: Path) -> None:
    values = yaml.safe_load(TINY.read_text())
    values["methods"] = [{"name": "SFT", "alignment": {"method": "sft", "steps": 100_000, "save_every": 50_000}}]
    grid = tmp_path / "long.yaml"
    grid.write_text(yaml.safe_dump(values))
    out = tmp_path / "out"
    started = subprocess.Popen(
        command(str(grid), "--out", str(out)),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: any(out.glob("vaccines/*/metrics.jsonl")), 240)
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=120)
    finally:
        started.kill()
    assert started.returncode == 75, said
    assert "stopped; the same command goes on" in said
    assert any(out.glob("vaccines/*/checkpoints/*/COMPLETE"))


def test_a_plan_counts_what_a_grid_is(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_BASE", environment["TINY_BASE"])
    done = CliRunner().invoke(app, ["bench", str(TINY), "--plan", "--json"])
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)
    assert (counts["cells"], counts["vaccines"], counts["attacks"]) == (4, 2, ["benign 0", "harmful_mixing 0.2"])


def test_mistakes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINY_BASE", raising=False)

    def error(*arguments: str) -> InvalidRequest:
        found = CliRunner().invoke(app, ["bench", *arguments]).exception
        assert isinstance(found, InvalidRequest)
        return found

    assert error().param == "grid"
    assert error(str(TINY), "--table", str(tmp_path)).param == "grid"
    assert error("--table", str(tmp_path)).param == "table"
    assert error(str(TINY), "--publish", str(tmp_path)).param == "publish"
    assert "TINY_BASE is not set" in error(str(TINY), "--plan").message
    monkeypatch.setenv("TINY_BASE", "x")
    assert error(str(TINY)).param == "out"


def test_a_cell_that_fails_ends_with_status_1(environment: dict[str, str], tmp_path: Path) -> None:
    values = yaml.safe_load(TINY.read_text())
    values["methods"] = [{"name": "T-Vaccine", "alignment": {"method": "t_vaccine", "steps": 2, "gamma": 99}}]
    values["ratios"] = [0]
    grid = tmp_path / "wrong.yaml"
    grid.write_text(yaml.safe_dump(values))
    done = run(environment, str(grid), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert result(done)["failed"][0]["error"]["param"] == "gamma"
    assert "gamma is 99" in (tmp_path / "out" / "table.md").read_text()
