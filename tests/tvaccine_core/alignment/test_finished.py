"""When a directory counts as a vaccine that is made: one that really was, and what is left when something lacks."""

import json
import shutil
from pathlib import Path

import pytest

from tests.tvaccine_core.certificate.conftest import Scene, scene  # noqa: F401 - a fixture
from tvaccine_core.alignment.finished import is_finished, made_from
from tvaccine_core.alignment.methods import alignment_config
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.models.adapter_records import read_record
from tvaccine_core.models.base import base_digest


@pytest.fixture
def vaccine(scene: Scene, tmp_path: Path) -> Path:  # noqa: F811
    return shutil.copytree(scene.vaccine, tmp_path / "vaccine")


def settings(vaccine: Path, **changed: object) -> AlignmentSettings:
    return alignment_config({**read_record(vaccine)["config"], **changed})


def files(scene: Scene, config: AlignmentSettings) -> dict[str, Path]:  # noqa: F811
    return made_from(config, scene.files["alignment_file"], scene.files["probe_file"])


def test_what_an_alignment_left_is_a_finished_vaccine(scene: Scene, vaccine: Path) -> None:  # noqa: F811
    config = settings(vaccine)
    assert is_finished(vaccine, base_digest(scene.base), config, files(scene, config))
    assert not is_finished(vaccine, "sha256:another", config, files(scene, config))


def test_other_settings_or_data_make_another_vaccine(scene: Scene, vaccine: Path) -> None:  # noqa: F811
    digest, config = base_digest(scene.base), settings(vaccine)
    other = settings(vaccine, steps=8)
    assert not is_finished(vaccine, digest, other, files(scene, other))
    swapped = made_from(config, scene.files["alignment_file"], scene.files["harmful_file"])
    assert not is_finished(vaccine, digest, config, swapped)


@pytest.mark.parametrize("name", ["report.json", "tvaccine.json", "config.json", "adapter_model.safetensors"])
def test_a_part_that_lacks_makes_it_unfinished(scene: Scene, vaccine: Path, name: str) -> None:  # noqa: F811
    (vaccine / name).unlink()
    config = settings(scene.vaccine)
    assert not is_finished(vaccine, base_digest(scene.base), config, files(scene, config))


def test_a_later_run_with_other_settings_that_only_began_is_seen(scene: Scene, vaccine: Path) -> None:  # noqa: F811
    config = settings(vaccine)
    begun = json.loads((vaccine / "config.json").read_text())
    (vaccine / "config.json").write_text(json.dumps({**begun, "steps": 8}))
    assert not is_finished(vaccine, base_digest(scene.base), config, files(scene, config))


def test_a_method_without_harmful_rows_is_made_from_one_file(tmp_path: Path) -> None:
    alignment, harmful = tmp_path / "a.jsonl", tmp_path / "h.jsonl"
    assert made_from(alignment_config({"method": "sft"}), alignment, harmful) == {"alignment": alignment}
    assert set(made_from(alignment_config({"method": "repnoise"}), alignment, harmful)) == {"alignment", "harmful"}
