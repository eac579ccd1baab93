"""A whole fine-tuning run on a tiny vaccinated base."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_models import chat_rows

from tvaccine_core.errors import BaseMismatch, InvalidRequest, InvalidTrainingFile
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.run import fine_tune
from tvaccine_core.models.adapter_files import WEIGHTS_FILE, load_adapter_weights
from tvaccine_core.models.adapter_records import read_record
from tvaccine_core.models.adapters import USER, add_user_adapter, add_vaccine
from tvaccine_core.models.base import load_base
from tvaccine_core.training.checkpoints import latest_checkpoint
from tvaccine_core.training.metrics import read_metrics
from tvaccine_core.training.stop import Stopped

CONFIG = FineTuneConfig(epochs=2, batch_size=3, learning_rate=1e-2, lora_r=4, save_every=3)


def test_a_run_leaves_everything_and_combined_equals_what_was_trained(
    base: str, vaccine: Path, rows_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = (vaccine / WEIGHTS_FILE).read_bytes()
    fine_tune(base, vaccine, rows_file, out, CONFIG, validation_file=rows_file, dtype="float32", device="cpu")
    assert {path.name for path in out.iterdir()} == {
        "user",
        "combined",
        "checkpoints",
        "metrics.jsonl",
        "report.json",
        "config.json",
    }
    assert (vaccine / WEIGHTS_FILE).read_bytes() == before
    report = json.loads((out / "report.json").read_text())
    lines = read_metrics(out / "metrics.jsonl")
    training = [line for line in lines if "loss" in line]
    assert report["steps"] == 8 == len(training)
    assert report["train_loss"] == pytest.approx(sum(line["loss"] for line in training) / 8)
    validated = [(line["step"], line["valid_loss"]) for line in lines if "valid_loss" in line]
    assert [step for step, _ in validated] == [3, 6, 8]
    assert validated[-1][1] < validated[0][1]
    assert report["valid_loss"] == validated[-1][1]
    assert json.loads((out / "config.json").read_text())["learning_rate"] == 1e-2

    loaded = load_base(base, dtype="float32")
    ids = torch.arange(3, 33).view(2, 15)
    two = add_user_adapter(add_vaccine(loaded.model, vaccine), CONFIG)
    load_adapter_weights(two, USER, out / "user")
    stock = load_base(base, dtype="float32").model
    one = PeftModel.from_pretrained(stock, str(out / "combined")).eval()
    assert (two.eval()(ids).logits - one(ids).logits).abs().max() < 1e-4
    assert read_record(out / "combined")["base_name"] == "tiny-llama"
    for path in (*(out / "user").iterdir(), *(out / "combined").iterdir(), out / "config.json"):
        assert str(tmp_path).encode() not in path.read_bytes()
        assert base.encode() not in path.read_bytes()


def test_trained_tokens_count_every_row_as_often_as_it_is_seen(base: str, rows_file: Path, tmp_path: Path) -> None:
    fine_tune(base, None, rows_file, tmp_path / "out", CONFIG, dtype="float32")
    from tvaccine_core.data.rows import read_rows_file
    from tvaccine_core.data.tokenise import encode_rows

    examples = encode_rows(load_base(base).tokenizer, read_rows_file(rows_file).rows, 512)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["trained_tokens"] == 2 * sum(len(example.input_ids) for example in examples)
    assert report["valid_loss"] is None


def test_a_stopped_run_resumes_elsewhere_to_the_same_adapter(
    base: str, vaccine: Path, rows_file: Path, tmp_path: Path
) -> None:
    whole, first, second = (tmp_path / name for name in ("whole", "first", "second"))
    fine_tune(base, vaccine, rows_file, whole, CONFIG, validation_file=rows_file, dtype="float32")
    asked = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        fine_tune(
            base, vaccine, rows_file, first, CONFIG, validation_file=rows_file, dtype="float32",
            should_stop=lambda: next(asked),
        )  # fmt: skip
    assert not (first / "report.json").exists()
    checkpoint = latest_checkpoint(first / "checkpoints")
    fine_tune(
        base, vaccine, rows_file, second, CONFIG, validation_file=rows_file, dtype="float32",
        resume_from=checkpoint,
    )  # fmt: skip
    for name in ("user", "combined"):
        assert (second / name / WEIGHTS_FILE).read_bytes() == (whole / name / WEIGHTS_FILE).read_bytes()
    reports = [json.loads((out / "report.json").read_text()) for out in (whole, second)]
    for report in reports:
        report.pop("seconds")
    assert reports[0] == reports[1]


def test_the_seed_decides_the_result(base: str, rows_file: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    config = replace(CONFIG, max_steps=2)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fine_tune(base, None, rows_file, tmp_path / name, replace(config, seed=seed), dtype="float32")
    files = [(tmp_path / name / "combined" / WEIGHTS_FILE).read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]


def test_bfloat16_trains_and_resumes(base: str, vaccine: Path, rows_file: Path, tmp_path: Path) -> None:
    asked = iter([False] * 3 + [True])
    with pytest.raises(Stopped) as caught:
        fine_tune(base, vaccine, rows_file, tmp_path / "a", CONFIG, dtype="bfloat16", should_stop=lambda: next(asked))
    fine_tune(base, vaccine, rows_file, tmp_path / "b", CONFIG, dtype="bfloat16", resume_from=caught.value.checkpoint)
    fine_tune(base, vaccine, rows_file, tmp_path / "c", CONFIG, dtype="bfloat16")
    losses = [line["loss"] for line in read_metrics(tmp_path / "c" / "metrics.jsonl")]
    assert losses[-1] < losses[0]
    assert (tmp_path / "b" / "user" / WEIGHTS_FILE).read_bytes() == (
        tmp_path / "c" / "user" / WEIGHTS_FILE
    ).read_bytes()


def test_bad_rows_are_named_before_anything_is_trained(base: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [*chat_rows(2), {"messages": []}, *chat_rows(1, answer="very " * 300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InvalidTrainingFile) as caught:
        fine_tune(base, None, path, tmp_path / "out", CONFIG)
    assert [detail["line"] for detail in caught.value.details] == [3]
    path.write_text("".join(json.dumps(row) + "\n" for row in (*rows[:2], rows[3])))
    with pytest.raises(InvalidTrainingFile) as caught:
        fine_tune(base, None, path, tmp_path / "out", FineTuneConfig(max_length=100))
    assert [(detail["line"], detail["code"]) for detail in caught.value.details] == [(3, "row_too_long")]
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_base_in_4_bits_is_refused_where_there_is_no_gpu(base: str, rows_file: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, quantization="4bit")
    with pytest.raises(InvalidRequest, match="CUDA") as refused:
        fine_tune(base, None, rows_file, tmp_path / "out", config, device="cpu")
    assert refused.value.param == "quantization"


def test_a_vaccine_of_another_base_is_refused(
    tiny_base: Callable[[str], Path], vaccine: Path, rows_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(BaseMismatch):
        fine_tune(str(tiny_base("qwen2")), vaccine, rows_file, tmp_path / "out", CONFIG)


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "opt"])
def test_other_families_train(tiny_base: Callable[[str], Path], rows_file: Path, tmp_path: Path, family: str) -> None:
    fine_tune(str(tiny_base(family)), None, rows_file, tmp_path / "out", CONFIG, dtype="float32")
    losses = [line["loss"] for line in read_metrics(tmp_path / "out" / "metrics.jsonl")]
    assert losses[-1] < losses[0]
