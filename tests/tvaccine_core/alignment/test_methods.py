"""The alignment methods by name: their settings, their rows, and a short run of each."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from tvaccine_core.alignment.methods import METHODS, alignment_config, carried_over, read_alignment_rows
from tvaccine_core.alignment.run import align
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.training.metrics import read_metrics
from tvaccine_core.training.stop import Stopped

SHORT = {"steps": 4, "batch_size": 2, "save_every": 2, "max_length": 128, "seed": 5}
SPECIAL = {"t_vaccine": {"gamma": 2, "draw_every": 2}, "tar": {"inner_steps": 2, "measure_every": 1}}


@pytest.fixture
def files(tmp_path):
    from tiny_models import chat_rows

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    harmful = chat_rows(9, answer="Mix flour.")
    return write("alignment.jsonl", chat_rows(8, answer="I'm sorry, I can't.")), write("harmful.jsonl", harmful)


@pytest.mark.parametrize("method", METHODS)
def test_every_name_has_settings_that_survive_json(method):
    config = alignment_config({"method": method, "steps": 7.0})
    assert isinstance(config, AlignmentSettings)
    assert (config.method, config.steps) == (method, 7)
    assert alignment_config(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(InvalidRequest) as error:
        alignment_config({"method": method, "stepz": 7})
    assert error.value.param == "stepz"


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(AlignmentSettings) if f.name != "method"])
@pytest.mark.parametrize("method", METHODS)
def test_shared_settings_are_checked_in_every_method(method, field):
    with pytest.raises(InvalidRequest) as error:
        alignment_config({"method": method, field: -1})
    assert error.value.param == field


@pytest.mark.parametrize("method", ["magic", "", 3, None, ["sft"]])
def test_an_unknown_name_is_answered_with_all_names(method):
    with pytest.raises(InvalidRequest) as error:
        alignment_config({"method": method})
    assert error.value.param == "method"
    assert all(name in error.value.message for name in METHODS)


def test_without_a_name_it_is_t_vaccine():
    assert alignment_config({}).method == "t_vaccine"


def test_settings_made_for_one_method_serve_another_where_they_mean_the_same():
    values = {"method": "booster", "alpha": 0.5, "steps": 9, "tpyo": 1}
    assert carried_over(values, "booster") == values
    assert carried_over(values, "repnoise") == {"method": "repnoise", "steps": 9, "tpyo": 1}
    assert carried_over({"rho": 0.1, "seed": 1}, "vaccine") == {"method": "vaccine", "rho": 0.1, "seed": 1}
    assert carried_over({"rho": 0.1, "seed": 1}, "tar") == {"method": "tar", "seed": 1}


@pytest.mark.parametrize("method", METHODS)
def test_who_asks_for_harmful_rows(files, method):
    config = alignment_config({"method": method})
    if method in ("vaccine", "sft"):
        assert read_alignment_rows(config, files[0], None).harmful == ()
        return
    with pytest.raises(InvalidRequest) as error:
        read_alignment_rows(config, files[0], None)
    assert error.value.param == "harmful_file"
    assert method in error.value.message
    assert len(read_alignment_rows(config, *files).harmful) == 9


def test_tar_needs_two_harmful_prompts(files):
    line = files[1].read_text().splitlines(keepends=True)[0]
    files[1].write_text(line * 3)
    with pytest.raises(InvalidRequest) as error:
        read_alignment_rows(alignment_config({"method": "tar"}), *files)
    assert error.value.param == "harmful_file"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_stops_resumes_and_reports(tiny_base, files, tmp_path, method):
    config = alignment_config({"method": method, **SHORT, **SPECIAL.get(method, {})})

    def run(name, **kwargs):
        align(str(tiny_base("llama")), *files, tmp_path / name, config, dtype="float32", device="cpu", **kwargs)
        return load_file(tmp_path / name / "adapter_model.safetensors")

    whole = run("whole")
    asked = iter(range(100))
    with pytest.raises(Stopped) as stopped:
        run("first", should_stop=lambda: next(asked) >= 3)
    resumed = run("second", resume_from=stopped.value.checkpoint)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert sum(float(tensor.abs().sum()) for name, tensor in whole.items() if "lora_B" in name) > 0
    for file in ("report.json", "tvaccine.json"):
        told = json.loads((tmp_path / "whole" / file).read_text())
        assert (told["method"], told["config"]) == (method, config.to_dict())
    assert [line["step"] for line in read_metrics(tmp_path / "second" / "metrics.jsonl")] == [1, 2, 3, 4]
