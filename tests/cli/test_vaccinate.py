"""`tvaccine vaccinate` on a tiny base: a vaccine without a service, interrupted and resumed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.cli.test_main import tvaccine, write
from tests.end_to_end.running_service import until
from tvaccine_core.alignment.methods import METHODS

TINY = ["steps=4", "batch_size=2", "gamma=1", "draw_every=2", "probe_every=2", "max_length=96"]
MANY = ["steps=2000", *TINY[1:], "save_every=5"]


def rows(question: str, answer: str) -> list[object]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"{question} {n}"},
                {"role": "assistant", "content": answer},
            ]
        }
        for n in range(6)
    ]


@pytest.fixture
def command(tmp_path: Path, tiny_base: Callable[[str], Path]) -> list[str]:
    alignment = write(tmp_path / "alignment.jsonl", rows("Tell me to", "I'm sorry, but I can't."))
    harmful = write(tmp_path / "harmful.jsonl", rows("Show me", "Here it is."))
    files = ["--alignment", str(alignment), "--harmful", str(harmful), "--out", str(tmp_path / "vaccine")]
    return ["vaccinate", "--base", str(tiny_base("llama")), *files, "--json"]


def config(pairs: list[str]) -> list[str]:
    return [word for pair in pairs for word in ("--config", pair)]


def test_it_leaves_a_vaccine_and_one_line_of_json(command: list[str], tmp_path: Path) -> None:
    done = tvaccine(*command, *config(TINY), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["report"]["steps"] == 4
    assert "A step of 2 rows of 96 tokens needs at most about" in done.stderr
    assert (tmp_path / "vaccine/adapter_model.safetensors").is_file()


def test_two_processes_under_torchrun_make_the_vaccine_of_twice_the_micro_batches(
    command: list[str], tmp_path: Path
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    started = [*torchrun, "-m", "cli.main", *command, *config(TINY)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(started, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = done.stdout.splitlines()  # the first rank speaks for both
    assert json.loads(line)["report"]["steps"] == 4
    alone = [word if word != str(tmp_path / "vaccine") else str(tmp_path / "alone") for word in command]
    assert tvaccine(*alone, *config([*TINY, "gradient_accumulation_steps=2"]), OMP_NUM_THREADS="1").returncode == 0
    two, one = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("vaccine", "alone"))
    assert two.keys() == one.keys()
    assert all((two[name] - one[name]).abs().max() < 1e-6 for name in one)


def test_a_run_with_other_settings_is_not_gone_on_with(command: list[str], tmp_path: Path) -> None:
    saved = [*TINY, "save_every=2"]
    assert tvaccine(*command, *config(saved), OMP_NUM_THREADS="1").returncode == 0
    longer = ["steps=6", *saved[1:-1], "rho=0.5"]
    refused = tvaccine(*command, *config(longer), OMP_NUM_THREADS="1")
    assert refused.returncode == 1
    assert "holds a run with other settings (rho, steps)" in refused.stderr
    anew = tvaccine(*command, "--no-resume", *config([*longer, "save_every=100"]), OMP_NUM_THREADS="1")
    assert anew.returncode == 0, anew.stderr
    steps = [json.loads(line)["step"] for line in (tmp_path / "vaccine/metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]
    left = {path.name for path in (tmp_path / "vaccine/checkpoints").iterdir()}
    assert not left & {"checkpoint-2", "checkpoint-4"}


def test_a_wrong_setting_is_named_before_anything_is_loaded(command: list[str]) -> None:
    done = tvaccine(*command, *config(["stepps=4"]))
    assert done.returncode == 1
    assert "stepps" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_another_method_by_name(command: list[str], tmp_path: Path) -> None:
    settings = config(["steps=2", "batch_size=2", "max_length=96", "beta=0.1"])
    done = tvaccine(*command, "--method", "repnoise", *settings, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["report"]
    assert (report["method"], report["config"]["beta"]) == ("repnoise", 0.1)
    assert (tmp_path / "vaccine/adapter_model.safetensors").is_file()


@pytest.mark.parametrize("words", [["--method", "magic"], ["--config", "method=magic"]])
def test_an_unknown_method_is_answered_with_those_there_are(command: list[str], words: list[str]) -> None:
    done = tvaccine(*command, *words)
    assert done.returncode == 1
    assert all(name in done.stderr for name in METHODS)


def test_a_method_is_named_once(command: list[str]) -> None:
    done = tvaccine(*command, "--method", "sft", "--config", "method=sft")
    assert done.returncode == 1
    assert "twice" in done.stderr


def test_the_help_names_every_method() -> None:
    done = tvaccine("vaccinate", "--help", COLUMNS="200", NO_COLOR="1")
    assert done.returncode == 0
    assert all(name in done.stdout for name in METHODS)


def test_interrupted_it_saves_and_the_same_command_goes_on(command: list[str], tmp_path: Path) -> None:
    full = [sys.executable, "-m", "cli.main", *command, *config(MANY)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    metrics = tmp_path / "vaccine/metrics.jsonl"

    def steps() -> int:
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    run = subprocess.Popen(full, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: steps() >= 6, 120)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
        assert run.returncode == 75, said
        assert "goes on from the checkpoint" in said
        before = steps()
        run = subprocess.Popen(full, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        until(lambda: steps() > before, 120)
    finally:
        run.terminate()
        _, said = run.communicate(timeout=60)
    assert "going on from" in said
    told = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert told == list(range(1, len(told) + 1))


@pytest.mark.real_base
def test_fetching_what_is_there_says_where_it_lies() -> None:
    done = tvaccine("base", "fetch", "--json")
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout.splitlines()[-1])["path"]).is_dir()
