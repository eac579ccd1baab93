"""Random noise on a finished adapter."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tvaccine_core.repair.test_panacea import make_vaccine
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from tvaccine_core.models.adapter_records import read_record, write_record
from tvaccine_core.models.digest import sha256_of
from tvaccine_core.repair.noise import add_noise
from tvaccine_core.repair.noise_config import NoiseConfig


@pytest.fixture
def vaccine(tiny_base: Callable[[str], Path], tmp_path: Path) -> Path:
    return make_vaccine(str(tiny_base("llama")), tmp_path / "vaccine", 0.1)


@pytest.fixture
def user(vaccine: Path, tmp_path: Path) -> Path:
    """A user adapter with large tensors of zeros, so that what is added can be measured."""
    directory, record = tmp_path / "user", read_record(vaccine)
    directory.mkdir()
    (directory / CONFIG_FILE).write_bytes((vaccine / CONFIG_FILE).read_bytes())
    weights = {name: torch.zeros_like(tensor) for name, tensor in load_file(vaccine / WEIGHTS_FILE).items()}
    save_file(weights, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    facts = {"base_name": record["base_name"], "base_digest": record["base_digest"]}
    digest = sha256_of([vaccine / WEIGHTS_FILE])
    write_record(directory, kind="user", **facts, vaccine_sha256=digest, defences=[{"name": "lisa"}])
    return directory


def test_it_has_the_deviation_that_was_asked_for_and_nothing_else_changes(
    vaccine: Path, user: Path, tmp_path: Path
) -> None:
    before = (user / WEIGHTS_FILE).read_bytes()
    add_noise(vaccine, user, tmp_path / "out", NoiseConfig(sigma=0.5, seed=1))
    added = torch.cat([tensor.flatten() for tensor in load_file(tmp_path / "out/user" / WEIGHTS_FILE).values()])
    assert len(added) > 1000
    assert float(added.mean()) == pytest.approx(0, abs=0.06)
    assert float(added.std()) == pytest.approx(0.5, rel=0.05)
    assert (user / WEIGHTS_FILE).read_bytes() == before
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["noise_norm"] == pytest.approx(float(added.norm()), rel=1e-5)
    assert read_record(tmp_path / "out/combined")["defences"] == ["lisa", "random_noise"]
    assert read_record(tmp_path / "out/user")["defences"][1]["sigma"] == 0.5
    assert read_record(tmp_path / "out/user")["kind"] == "user"


def test_one_seed_gives_one_result(vaccine: Path, user: Path, tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        add_noise(vaccine, user, tmp_path / name, NoiseConfig(seed=seed))
        made.append((tmp_path / name / "combined" / WEIGHTS_FILE).read_bytes())
    assert made[0] == made[1] != made[2]


def test_without_noise_the_vaccine_alone_is_left(vaccine: Path, user: Path, tmp_path: Path) -> None:
    add_noise(vaccine, user, tmp_path / "out", NoiseConfig(sigma=0.0))
    assert all(not tensor.any() for tensor in load_file(tmp_path / "out/user" / WEIGHTS_FILE).values())


def test_an_adapter_of_another_vaccine_is_refused(tiny_base: Callable[[str], Path], user: Path, tmp_path: Path) -> None:
    other = make_vaccine(str(tiny_base("llama")), tmp_path / "other", 0.2)
    with pytest.raises(InvalidRequest) as refused:
        add_noise(other, user, tmp_path / "out", NoiseConfig())
    assert refused.value.param == "vaccine_dir"
    with pytest.raises(InvalidRequest) as refused:
        add_noise(None, other, tmp_path / "out", NoiseConfig())
    assert refused.value.param == "user_adapter_dir"


@pytest.mark.parametrize("sigma", [-0.1, 11, "much"])
def test_a_wrong_deviation_is_named(sigma: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        NoiseConfig.from_dict({"sigma": sigma})
    assert refused.value.param == "sigma"
