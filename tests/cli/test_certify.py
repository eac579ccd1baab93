"""`tvaccine certify` on a tiny vaccine: killed in the middle of an attack, and gone on with."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_main import tvaccine
from tests.end_to_end.running_service import until
from tests.tvaccine_core.certificate.conftest import Scene, scene  # noqa: F401 - a fixture

MIXING = {"name": "harmful_mixing", "n": 10}
ATTACKS = json.dumps([MIXING, {**MIXING, "ratio": 0.2}, {"name": "identity_shift", "n": 5}])
SMALL = [
    f"attacks={ATTACKS}",
    "prompts=5",
    "benign_prompts=3",
    "max_new_tokens=4",
    "coherence_floor=0",
    "stock=off",
]


@pytest.fixture
def command(scene: Scene, tmp_path: Path) -> list[str]:  # noqa: F811
    files = [word for name, path in scene.files.items() for word in (f"--{name.removesuffix('_file')}", str(path))]
    place = ["--vaccine", str(scene.vaccine), "--out", str(tmp_path / "out"), "--judge", str(scene.judge)]
    small = [word for pair in SMALL for word in ("--config", pair)]
    return ["certify", "--base", scene.base, *place, *files, *small, "--dtype", "float32", "--device", "cpu", "--json"]


def training(steps: int) -> list[str]:
    settings = {"max_steps": steps, "batch_size": 2, "learning_rate": 1e-3, "lora_r": 2, "save_every": 2}
    return ["--config", f"fine_tune={json.dumps(settings)}"]


def test_it_writes_a_certificate_and_says_by_its_status_that_it_failed(command: list[str], tmp_path: Path) -> None:
    done = tvaccine(*command, *training(2), OMP_NUM_THREADS="1")
    assert done.returncode == 1, done.stderr  # of 5 prompts nothing follows
    (line,) = done.stdout.splitlines()
    told = json.loads(line)["certificate"]
    assert told["verdict"] == "failed"
    assert told == json.loads((tmp_path / "out/certificate.json").read_text())
    lax = [word for pair in ("judge_threshold=1", "clean_limit=50") for word in ("--config", pair)]
    limits = [*lax, "--config", "attack_limit=50", "--config", "over_refusal_limit=100", "--out", str(tmp_path / "lax")]
    passed = tvaccine(*[word for word in command if word != "--json"], *training(2), *limits, OMP_NUM_THREADS="1")
    assert passed.returncode == 0, passed.stderr
    assert "The vaccine passed its certificate." in passed.stdout
    assert "Task accuracy: clean" in passed.stdout


def test_killed_in_an_attack_the_same_command_goes_on(command: list[str], tmp_path: Path) -> None:
    full = [sys.executable, "-m", "cli.main", *command, *training(40)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    work = tmp_path / "out/parts/vaccinated-harmful_mixing_10/work/tuned"
    child = subprocess.Popen(full, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: list(work.glob("checkpoints/checkpoint-*/COMPLETE")), 240)
    finally:
        child.kill()
        child.communicate(timeout=60)
    clean = tmp_path / "out/parts/vaccinated-clean/figures.json"
    before = clean.read_text()
    done = tvaccine(*command, *training(40), OMP_NUM_THREADS="1")
    assert done.returncode == 1, done.stderr
    assert "going on from" in done.stderr
    assert clean.read_text() == before  # with the seconds that it took
    assert [figures["training"]["steps"] for figures in _attacked(tmp_path / "out")] == [40, 40, 40]
    assert not list(tmp_path.glob("out/parts/*/work"))


def test_interrupted_it_says_how_to_go_on(command: list[str], tmp_path: Path) -> None:
    full = [sys.executable, "-m", "cli.main", *command, *training(2000)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    metrics = tmp_path / "out/parts/vaccinated-harmful_mixing_10/work/tuned/metrics.jsonl"
    child = subprocess.Popen(full, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until(metrics.exists, 240)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 75, said
    assert "the same command goes on" in said


def test_a_wrong_setting_is_named_before_anything_is_loaded(command: list[str], tmp_path: Path) -> None:
    done = tvaccine(*command, "--config", "clean_limit=200")
    assert done.returncode == 1
    assert "clean_limit" in done.stderr
    assert not (tmp_path / "out").exists()


def _attacked(out: Path) -> list[dict[str, dict[str, int]]]:
    found = sorted(out.glob("parts/vaccinated-*/figures.json"))
    return [json.loads(path.read_text()) for path in found if "clean" not in path.parent.name]
