"""Whole alignment runs on tiny bases."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tvaccine_core.alignment import run as run_module
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.run import align
from tvaccine_core.alignment.trainer import STATE_FILE
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.training.metrics import read_metrics
from tvaccine_core.training.stop import Stopped

CONFIG = TVaccineConfig(
    gamma=2, steps=10, probe_every=6, draw_every=4, probe_batch=4, batch_size=3, save_every=3, seed=3
)


@pytest.fixture
def files(tmp_path):
    from tiny_models import chat_rows

    def write(name, count, answer):
        path = tmp_path / name
        lines = [json.dumps(row) + "\n" for row in chat_rows(count, answer=answer)]
        path.write_text("".join(lines), encoding="utf-8")
        return path

    return write("alignment.jsonl", 11, "I'm sorry, but I can't help."), write("harmful.jsonl", 9, "Mix flour.")


def train(base, files, out, config=CONFIG, dtype="float32", **kwargs):
    alignment, harmful = files
    align(str(base), alignment, harmful, out, config, dtype=dtype, device="cpu", **kwargs)
    return load_file(out / "adapter_model.safetensors")


def lines_without_time(out):
    return [{k: v for k, v in line.items() if k != "t"} for line in read_metrics(out / "metrics.jsonl")]


def test_leaves_a_vaccine(tiny_base, files, tmp_path):
    base, out = tiny_base("llama"), tmp_path / "out"
    train(base, files, out)
    names = {path.name for path in out.iterdir()}
    expected = {"adapter_model.safetensors", "adapter_config.json", "tvaccine.json", "config.json"}
    assert names == expected | {"metrics.jsonl", "report.json", "checkpoints"}
    record = json.loads((out / "tvaccine.json").read_text())
    assert record["kind"] == "vaccine"
    assert record["base_digest"].startswith("sha256:")
    assert record["digests"].keys() == {"alignment", "harmful"}
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == base.name
    lines = lines_without_time(out)
    assert [line["step"] for line in lines] == list(range(1, 11))
    # Probes at steps 0 and 6, draws at 0, 4 and 8; both at 0, the probe first.
    assert [line["step"] - 1 for line in lines if "p" in line] == [0, 6]
    assert [line["step"] - 1 for line in lines if "selected" in line] == [0, 4, 8]
    for line in lines:
        assert line["eps_norm"] == pytest.approx(CONFIG.rho, rel=1e-4)
        assert line["eps_norm_effective"] == pytest.approx(CONFIG.rho, rel=1e-3)
        assert line["loss_perturbed"] > line["loss"]
    report = json.loads((out / "report.json").read_text())
    assert report["steps"] == 10
    assert [probe["step"] for probe in report["probes"]] == [0, 6]
    assert all(sum(probe["p"]) == pytest.approx(1.0) and min(probe["p"]) >= 0 for probe in report["probes"])
    assert [(d["step"], len(set(d["selected"]))) for d in report["draws"]] == [(0, 2), (4, 2), (8, 2)]
    assert report["final_loss"] < lines[0]["loss"]


def test_resuming_inside_a_window_ends_in_the_same_bits(tiny_base, files, tmp_path):
    base = tiny_base("qwen2")
    expected = train(base, files, tmp_path / "whole")
    asked = iter(range(100))
    with pytest.raises(Stopped) as stopped:  # asked before the first step and after each: stops after the sixth
        train(base, files, tmp_path / "first", should_stop=lambda: next(asked) >= 6)
    checkpoint = stopped.value.checkpoint
    assert stopped.value.step == 6
    state = json.loads((checkpoint / STATE_FILE).read_text())
    whole = json.loads((tmp_path / "whole" / "report.json").read_text())
    assert state["schedule"]["selected"] == whole["draws"][1]["selected"]
    assert state["schedule"]["p"] == whole["probes"][0]["p"]
    resumed = train(base, files, tmp_path / "second", resume_from=checkpoint)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert lines_without_time(tmp_path / "second") == lines_without_time(tmp_path / "whole")


@pytest.mark.parametrize("family", ["gemma2", "opt"])
@pytest.mark.parametrize("scheme", ["efficient", "two_pass"])
def test_other_families(tiny_base, files, tmp_path, family, scheme):
    config = dataclasses.replace(CONFIG, steps=3, scheme=scheme, freeze_scope="layer", gamma=1)
    weights = train(tiny_base(family), files, tmp_path / "out", config)
    assert sum(float(tensor.abs().sum()) for name, tensor in weights.items() if "lora_B" in name) > 0


def test_bfloat16_base_with_float32_adapters(tiny_base, files, tmp_path):
    config = dataclasses.replace(CONFIG, steps=3, memory_budget_gb=1.0, lora_dropout=0.1)
    weights = train(tiny_base("llama"), files, tmp_path / "out", config, dtype="bfloat16")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    for line in read_metrics(tmp_path / "out" / "metrics.jsonl"):
        assert line["eps_norm_effective"] == pytest.approx(CONFIG.rho, rel=0.05)


@pytest.mark.parametrize("method", ["vaccine", "sft"])
def test_methods_without_a_probe_never_open_the_harmful_file(tiny_base, files, tmp_path, method):
    config = dataclasses.replace(CONFIG, steps=2, method=method)
    train(tiny_base("llama"), (files[0], tmp_path / "does-not-exist.jsonl"), tmp_path / "out", config)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["probes"] == []
    assert report["draws"] == [{"step": 0, "selected": [0, 1, 2] if method == "vaccine" else []}]
    assert json.loads((tmp_path / "out" / "tvaccine.json").read_text())["digests"].keys() == {"alignment"}


def test_methods_that_probe_need_the_harmful_file(tiny_base, files, tmp_path):
    with pytest.raises(InvalidRequest) as error:
        train(tiny_base("llama"), (files[0], None), tmp_path / "out")
    assert error.value.param == "harmful_file"


def test_gamma_above_the_number_of_layers(tiny_base, files, tmp_path):
    with pytest.raises(InvalidRequest) as error:
        train(tiny_base("llama"), files, tmp_path / "out", dataclasses.replace(CONFIG, gamma=4))
    assert error.value.param == "gamma"
    assert not (tmp_path / "out" / "report.json").exists()


def test_accumulated_micro_batches_count_by_their_tokens(tiny_base, files, tmp_path, monkeypatch):
    """The gradient of a step is that of its micro-batches' perturbed losses, weighted by supervised tokens."""
    taken = []

    class Recorder(run_module.TVaccineTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            before = self.present()
            loss = super().training_step(model, inputs, num_items_in_batch)
            share = int((inputs["labels"][:, 1:] != -100).sum()) / int(num_items_in_batch)
            taken.append((before, share, self.present()))
            if len(taken) == 1:  # the same micro-batch alone
                self.model.zero_grad()
                self.scheme.step(inputs, torch.Tensor.backward)
                alone = self.present()
                assert alone.keys() == taken[0][2].keys()
                for name, gradient in alone.items():
                    assert torch.allclose(gradient * share, taken[0][2][name], atol=1e-7)
                    parameter = self.model.get_parameter(name)
                    parameter.grad.copy_(taken[0][2][name])
            return loss

        def present(self):
            return {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}

    monkeypatch.setattr(run_module, "TVaccineTrainer", Recorder)
    config = dataclasses.replace(CONFIG, steps=1, gradient_accumulation_steps=3)
    train(tiny_base("llama"), files, tmp_path / "out", config)
    assert len(taken) == 3
    assert taken[0][0] == {}
    assert sum(share for _, share, _ in taken) == pytest.approx(1.0)
    for (_, _, after), (before, _, _) in pairwise(taken):
        assert all(torch.equal(after[name], before[name]) for name in after)
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())["probes"]) == 1


def test_frozen_adapters_keep_their_bits(tiny_base, files, tmp_path):
    """Within one window, whole-layer freezing changes the drawn layers' adapters and no others."""
    once = dataclasses.replace(CONFIG, freeze_scope="layer", draw_every=100, gamma=1, save_every=1, steps=1)
    longer = dataclasses.replace(once, steps=4)
    train(tiny_base("llama"), files, tmp_path / "out", longer)
    drawn = json.loads((tmp_path / "out" / "report.json").read_text())["draws"][0]["selected"]
    checkpoints: list[Path] = sorted((tmp_path / "out" / "checkpoints").iterdir())
    early, late = (load_file(path / "adapter_model.safetensors") for path in (checkpoints[0], checkpoints[-1]))
    changed = {name for name in early if not torch.equal(early[name], late[name])}
    assert changed == {name for name in early if f".layers.{drawn[0]}." in name}


def test_layers_are_never_dropped_at_random(tiny_base, files, tmp_path):
    base = tmp_path / "dropping"
    from tiny_models import save_tiny_base

    save_tiny_base(base, "opt")
    config = dataclasses.replace(CONFIG, steps=2)
    expected = train(base, files, tmp_path / "kept", config)
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layerdrop": 0.9}))
    found = train(base, files, tmp_path / "out", config)
    assert {name for name in expected if not expected[name].equal(found[name])} == set()


def test_a_base_in_4_bits_is_refused_where_there_is_no_gpu(tiny_base, files, tmp_path):
    with pytest.raises(InvalidRequest, match="CUDA") as refused:
        train(tiny_base("llama"), files, tmp_path / "out", dataclasses.replace(CONFIG, quantization="4bit"))
    assert refused.value.param == "quantization"
