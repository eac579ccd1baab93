"""The command line as a user meets it: in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.output import say
from cli.vaccinate import parse_config
from tvaccine_core.errors import InvalidRequest

ROWS = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": "answer"}]}
    for n in range(12)
]


def tvaccine(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_help_names_the_commands() -> None:
    done = tvaccine("--help")
    assert done.returncode == 0
    for name in ("up", "check", "vaccinate", "keys", "base"):
        assert name in done.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["check"], ["up", "--port", "many"], ["check", "absent"]])
def test_wrong_usage_exits_2_and_says_what_is_wrong_on_stderr(arguments: list[str]) -> None:
    done = tvaccine(*arguments)
    assert done.returncode == 2
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_importing_the_command_line_is_quick_and_loads_nothing_heavy() -> None:
    program = (
        "import sys, cli.main\n"
        "print([m for m in ('torch', 'sqlalchemy', 'fastapi', 'celery', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_good_file_passes_the_check(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", list(ROWS))
    done = tvaccine("check", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "file": str(file),
        "valid": True,
        "rows": 12,
        "faults": [],
    }


def test_a_faulty_file_fails_the_check_with_every_fault(tmp_path: Path) -> None:
    rows: list[object] = [*ROWS, {"messages": []}, {"wrong": 1}]
    file = write(tmp_path / "rows.jsonl", rows)
    done = tvaccine("check", str(file), "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout.splitlines()[-1])
    assert not told["valid"]
    assert {fault["line"] for fault in told["faults"]} == {13, 14}
    for_humans = tvaccine("check", str(file))
    assert for_humans.returncode == 1
    assert f"{file}:13" in for_humans.stdout


def test_an_error_of_ours_is_one_line_and_exit_1(tmp_path: Path) -> None:
    done = tvaccine("up", TVACCINE_DATA_DIR=str(tmp_path), TVACCINE_REPAIRING="on")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("tvaccine: Invalid settings: TVACCINE_REPAIRING")
    with_json = tvaccine("up", "--json", TVACCINE_DATA_DIR=str(tmp_path), TVACCINE_LEASE_SECONDS="-3")
    assert with_json.returncode == 1
    assert json.loads(with_json.stdout.splitlines()[-1])["error"]["code"] == "invalid_settings"


def test_a_database_that_is_away_is_said_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://tv:hidden-word@127.0.0.1:1/tv"
    done = tvaccine("up", "--port", "0", TVACCINE_DATA_DIR=str(tmp_path), TVACCINE_DATABASE_URL=url)
    assert done.returncode == 1
    assert "TVACCINE_DATABASE_URL" in done.stderr
    assert "hidden-word" not in done.stderr
    assert "Traceback" not in done.stderr


def test_configuration_pairs() -> None:
    assert parse_config(["steps=80", "rho=0.3", "select=topk", "memory_budget_gb=null"]) == {
        "steps": 80,
        "rho": 0.3,
        "select": "topk",
        "memory_budget_gb": None,
    }
    for wrong in (["steps"], ["=3"], ["steps=1", "steps=2"]):
        with pytest.raises(InvalidRequest):
            parse_config(wrong)


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("working")
    assert capsys.readouterr() == ("", "working\n")
