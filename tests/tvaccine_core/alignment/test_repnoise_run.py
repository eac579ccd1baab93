"""Whole RepNoise runs on tiny bases."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tvaccine_core.alignment.repnoise_config import RepNoiseConfig
from tvaccine_core.alignment.repnoise_trainer import RepNoiseTrainer
from tvaccine_core.alignment.run import align
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.training.metrics import read_metrics
from tvaccine_core.training.stop import Stopped

CONFIG = RepNoiseConfig(steps=8, batch_size=3, save_every=3, seed=3, max_length=128)


@pytest.fixture
def files(tmp_path):
    """11 alignment rows; the harmful rows ask 6 of their questions and, with `others`, 3 of their own."""
    from tiny_models import chat_rows

    def write(alignment_answer="I'm sorry, but I can't help.", harmful_answer="Mix flour.", others=True):
        alignment = chat_rows(11, answer=alignment_answer)[:9]
        harmful = chat_rows(6, answer=harmful_answer)
        for n in range(3 if others else 0):
            question, answer = f"How do I bake {n} breads?", "Mix flour."
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            harmful.append({"messages": messages})
        paths = []
        for name, rows in (("alignment", alignment), ("harmful", harmful)):
            paths.append(tmp_path / f"{name}.jsonl")
            paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return paths

    return write


def train(base, files, out, config=CONFIG, dtype="float32", **kwargs):
    align(str(base), *files, out, config, dtype=dtype, device="cpu", **kwargs)
    return load_file(out / "adapter_model.safetensors")


def lines_without_time(out: Path):
    return [{k: v for k, v in line.items() if k != "t"} for line in read_metrics(out / "metrics.jsonl")]


def test_leaves_a_vaccine_and_its_terms(tiny_base, files, tmp_path):
    out = tmp_path / "out"
    config = dataclasses.replace(CONFIG, alpha=0.5, beta=0.1, learning_rate=5e-3, steps=20)
    train(tiny_base("llama"), files(), out, config)
    lines = lines_without_time(out)
    assert [line["step"] for line in lines] == list(range(1, 21))
    for line in lines:
        expected = line["loss_safe"] + 0.1 * line["loss_noise"] - 0.5 * torch.tensor(line["loss_harmful"]).log().item()
        assert line["loss"] == pytest.approx(expected, abs=1e-4)
        assert line["loss_harmful"] > 1.0
        assert line["loss_noise"] > 0.0
    assert lines[-1]["loss_safe"] < lines[0]["loss_safe"]
    report = json.loads((out / "report.json").read_text())
    assert report["method"] == "repnoise"
    assert report["config"] == config.to_dict()
    assert report["final_loss_safe"] == pytest.approx((lines[-1]["loss_safe"] + lines[-2]["loss_safe"]) / 2)
    record = json.loads((out / "tvaccine.json").read_text())
    assert (record["method"], record["config"]) == ("repnoise", config.to_dict())
    assert record["digests"].keys() == {"alignment", "harmful"}


def test_ascent_raises_the_harmful_loss_and_noise_brings_activations_nearer_to_noise(tiny_base, files, tmp_path):
    def last(name, **settings):
        config = dataclasses.replace(
            CONFIG, **{"alpha": 0.0, "beta": 0.0, "learning_rate": 5e-3, "steps": 20, **settings}
        )
        train(tiny_base("llama"), files(), tmp_path / name, config)
        return lines_without_time(tmp_path / name)[-1]

    plain, ascent, noise = last("plain"), last("ascent", alpha=5.0), last("noise", beta=20.0)
    assert ascent["loss_harmful"] > plain["loss_harmful"] + 0.1
    assert noise["loss_noise"] < plain["loss_noise"] * 0.98


def test_a_resumed_run_ends_in_the_same_bits(tiny_base, files, tmp_path):
    base, paths = tiny_base("qwen2"), files()
    expected = train(base, paths, tmp_path / "whole")
    asked = iter(range(100))
    with pytest.raises(Stopped) as stopped:
        train(base, paths, tmp_path / "first", should_stop=lambda: next(asked) >= 5)
    resumed = train(base, paths, tmp_path / "second", resume_from=stopped.value.checkpoint)
    assert stopped.value.step == 5
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert lines_without_time(tmp_path / "second") == lines_without_time(tmp_path / "whole")


def test_identical_answers_change_no_weight(tiny_base, files, tmp_path):
    paths = files(alignment_answer="Mix flour.", others=False)
    paths[0].write_text(paths[1].read_text())
    weights = [
        train(tiny_base("llama"), paths, tmp_path / f"{steps}", dataclasses.replace(CONFIG, steps=steps))
        for steps in (1, 4)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(not tensor.any() for name, tensor in weights[0].items() if "lora_B" in name)
    assert [line["loss"] for line in lines_without_time(tmp_path / "4")] == [0.0] * 4


def test_noise_is_redrawn_at_every_step(tiny_base, files, tmp_path):
    paths = files(others=False)
    paths[1].write_text("".join(paths[1].read_text().splitlines(keepends=True)[:2]))
    config = dataclasses.replace(CONFIG, learning_rate=1e-9, batch_size=2, steps=4)
    train(tiny_base("llama"), paths, tmp_path / "out", config)
    lines = lines_without_time(tmp_path / "out")
    assert len({line["loss_noise"] for line in lines}) == 4
    assert max(line["loss_harmful"] for line in lines) - min(line["loss_harmful"] for line in lines) < 1e-4


def test_micro_batches_are_averaged_evenly(tiny_base, files, tmp_path, monkeypatch):
    taken = []

    class Recorder(RepNoiseTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            loss = super().training_step(model, inputs, num_items_in_batch)
            taken.append((inputs, loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
            return loss

    monkeypatch.setattr("tvaccine_core.alignment.run.RepNoiseTrainer", Recorder)
    config = dataclasses.replace(CONFIG, steps=1, gradient_accumulation_steps=2, beta=0.5)
    train(tiny_base("llama"), files(), tmp_path / "two", config)
    train(tiny_base("llama"), files(), tmp_path / "one", dataclasses.replace(config, gradient_accumulation_steps=1))
    halved, alone = taken[0], taken[2]
    assert torch.equal(halved[0]["harmful"]["input_ids"], alone[0]["harmful"]["input_ids"])
    assert halved[1].item() == pytest.approx(alone[1].item() / 2)
    assert all(torch.allclose(halved[2][name], alone[2][name] / 2, atol=1e-7) for name in alone[2])
    (line,) = lines_without_time(tmp_path / "two")
    assert line["loss"] == pytest.approx((taken[0][1] + taken[1][1]).item(), abs=1e-4)


@pytest.mark.parametrize("family", ["gemma2", "opt"])
def test_other_families(tiny_base, files, tmp_path, family):
    weights = train(tiny_base(family), files(), tmp_path / "out", dataclasses.replace(CONFIG, steps=2))
    assert sum(float(tensor.abs().sum()) for name, tensor in weights.items() if "lora_B" in name) > 0


def test_bfloat16_base_with_float32_adapters(tiny_base, files, tmp_path):
    config = dataclasses.replace(CONFIG, steps=2, lora_dropout=0.1, masking="published")
    weights = train(tiny_base("llama"), files(), tmp_path / "out", config, dtype="bfloat16")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_no_pairs_is_found_out_before_the_base_is_loaded(files, tmp_path):
    paths = files()
    paths[1].write_text(paths[1].read_text().splitlines(keepends=True)[-1])
    with pytest.raises(InvalidRequest) as error:
        train("no-such-base", paths, tmp_path / "out", dataclasses.replace(CONFIG, unpaired="drop"))
    assert error.value.param == "harmful_file"
