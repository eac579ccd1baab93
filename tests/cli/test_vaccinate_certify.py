"""`tvaccine vaccinate --certify` on a tiny base: made, attacked, interrupted in an attack and gone on with."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.certificates import clear_of_another
from tests.cli.test_main import tvaccine
from tests.end_to_end.running_service import until
from tests.tvaccine_core.certificate.conftest import Scene, scene  # noqa: F401 - a fixture

MIXING = {"name": "harmful_mixing", "n": 10}
ATTACKS = [MIXING, {**MIXING, "ratio": 0.2}, {"name": "identity_shift", "n": 5}]
LABELS = ["harmful_mixing_10", "harmful_mixing_20", "identity_shift"]
TINY = {"steps": 4, "batch_size": 2, "gamma": 1, "draw_every": 2, "probe_every": 2, "max_length": 96}
SMALL: dict[str, Any] = {
    "attacks": ATTACKS,
    "fine_tune": {"max_steps": 60, "batch_size": 2, "learning_rate": 1e-3, "lora_r": 2, "save_every": 20},
    "prompts": 5,
    "benign_prompts": 3,
    "max_new_tokens": 4,
    "coherence_floor": 0,
    "stock": "off",
}
QUICK = {"fine_tune": {**SMALL["fine_tune"], "max_steps": 2}}
LAX = {"judge_threshold": 1, "clean_limit": 50, "attack_limit": 50, "over_refusal_limit": 100}


def pairs(option: str, values: dict[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in (option, f"{name}={json.dumps(value)}")]


Command = Callable[..., list[str]]


@pytest.fixture
def command(scene: Scene, tmp_path: Path) -> Command:  # noqa: F811
    """Call with settings of the certificate that differ from SMALL."""
    files = [
        *("--alignment", str(scene.files["alignment_file"]), "--harmful", str(scene.files["probe_file"])),
        *("--attack", str(scene.files["harmful_file"]), "--prompts", str(scene.files["prompts_file"])),
    ]
    place = ["--base", scene.base, "--out", str(tmp_path / "vaccine"), "--judge", str(scene.judge)]
    words = ["vaccinate", "--certify", *place, *files, *pairs("--config", TINY)]
    return lambda **changed: [*words, *pairs("--certify-config", {**SMALL, **changed})]


def test_interrupted_in_an_attack_it_goes_on_without_aligning_anew(command: Command, tmp_path: Path) -> None:
    full = [sys.executable, "-m", "cli.main", *command(), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    vaccine = tmp_path / "vaccine"
    metrics = vaccine / "certificate/parts/vaccinated-harmful_mixing_10/work/tuned/metrics.jsonl"
    child = subprocess.Popen(full, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(metrics.exists, 240)
        child.send_signal(signal.SIGINT)
        told, said = child.communicate(timeout=120)
    finally:
        child.kill()
    assert (child.returncode, told) == (75, ""), said
    assert "the same command goes on" in said
    made = {path.name: path.stat().st_mtime_ns for path in vaccine.iterdir() if path.is_file()}
    clean = (vaccine / "certificate/parts/vaccinated-clean/figures.json").read_text()

    done = tvaccine(*command(), "--json", OMP_NUM_THREADS="1")
    assert done.returncode == 1, done.stderr  # of 5 prompts nothing follows
    assert "is made; going on with its certificate" in done.stderr
    assert {path.name: path.stat().st_mtime_ns for path in vaccine.iterdir() if path.is_file()} == made
    assert (vaccine / "certificate/parts/vaccinated-clean/figures.json").read_text() == clean
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["report"]["steps"] == 4
    assert result["certificate"] == json.loads((vaccine / "certificate/certificate.json").read_text())
    assert [one["label"] for one in result["certificate"]["attacks"]] == LABELS
    assert {one["vaccinated"]["training"]["steps"] for one in result["certificate"]["attacks"]} == {60}


def test_one_that_passes_says_the_score_after_each_attack(command: Command, tmp_path: Path) -> None:
    done = tvaccine(*command(**QUICK, **LAX), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert f"The vaccine lies in {tmp_path / 'vaccine'}" in done.stdout
    assert "The vaccine passed its certificate." in done.stdout
    for label in ("clean", *LABELS):
        assert f"  ok   {label}: harmful score" in done.stdout
    assert (tmp_path / "vaccine/adapter_model.safetensors").is_file()


def test_data_that_the_vaccine_knows_are_refused_before_it_is_made(
    command: Command,
    scene: Scene,  # noqa: F811
    tmp_path: Path,
) -> None:
    known = ["--attack", str(scene.files["alignment_file"])]
    done = tvaccine(*command(), *known)
    assert done.returncode == 1
    assert "certificate cannot be made" in done.stderr
    assert "alignment.jsonl" in done.stderr
    assert not (tmp_path / "vaccine").exists()


def test_what_a_certificate_takes_needs_the_flag(command: Command, tmp_path: Path) -> None:
    done = tvaccine(*[word for word in command() if word != "--certify"])
    assert done.returncode == 1
    assert "need --certify" in done.stderr
    assert not (tmp_path / "vaccine").exists()


def test_under_torchrun_it_is_refused_before_anything_is_made(command: Command, tmp_path: Path) -> None:
    done = tvaccine(*command(), WORLD_SIZE="2")
    assert done.returncode == 1
    assert "one process" in done.stderr
    assert not (tmp_path / "vaccine").exists()


@pytest.mark.parametrize("same", [True, False])
def test_the_certificate_of_other_weights_does_not_stand_beside_new_ones(
    scene: Scene,  # noqa: F811
    tmp_path: Path,
    same: bool,
) -> None:
    from tvaccine_core.data.datasets import file_digest

    out = tmp_path / "certificate"
    out.mkdir()
    sha256 = file_digest(scene.vaccine / "adapter_model.safetensors").removeprefix("sha256:")
    (out / "config.json").write_text(json.dumps({"vaccine_sha256": sha256 if same else "other"}))
    clear_of_another(out, scene.vaccine)
    assert out.exists() is same
    clear_of_another(tmp_path / "absent", scene.vaccine)
