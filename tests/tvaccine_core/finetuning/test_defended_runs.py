"""Whole fine-tuning runs under a defence: equivalence, stopping and resuming, and what they leave."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tvaccine_core.data.rows import read_rows_file
from tvaccine_core.data.tokenise import encode_rows
from tvaccine_core.errors import BaseMismatch, DatasetOverlap, InvalidRequest, InvalidTrainingFile
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.defences import defence_config
from tvaccine_core.finetuning.model_rewriter import ModelRewriter
from tvaccine_core.finetuning.run import fine_tune
from tvaccine_core.models.adapter_files import WEIGHTS_FILE
from tvaccine_core.models.adapter_records import read_record
from tvaccine_core.models.base import load_base
from tvaccine_core.training.checkpoints import latest_checkpoint
from tvaccine_core.training.metrics import read_metrics
from tvaccine_core.training.stop import Stopped

CONFIG = FineTuneConfig(epochs=2, batch_size=3, learning_rate=1e-2, lora_r=4, save_every=100)
LISA = {"name": "lisa", "alignment_steps": 2, "user_steps": 3, "rho": 0.5, "warmup_share": 0.1}
PANACEA = {"name": "panacea", "rho": 0.5, "lam": 0.5, "harmful_batch": 4, "loss_cap": 1e6}
MIXING = {"name": "safe_mixing", "mode": "template", "rate": 0.25}
PARAPHRASE = {**MIXING, "mode": "paraphrase", "examples": 2, "tries": 2, "max_new_tokens": 8}
TUNING = {"gradient_accumulation_steps": 2, "batch_size": 2, "lora_dropout": 0.3}


class Runner:
    """Runs `fine_tune` with the files of the fixture into a directory of its own."""

    def __init__(self, base: str, files: Any, vaccine: Path | None, place: Path) -> None:
        self.base, self.files, self.vaccine, self.place = base, files, vaccine, place

    def __call__(self, name: str, *asked: Any, config: FineTuneConfig = CONFIG, **more: Any) -> Path:
        out = self.place / name
        files = {"safe_file": self.files.safe, "harmful_file": self.files.harmful}
        fine_tune(
            self.base, self.vaccine, self.files.user, out, config,
            **{"defence": defence_config(list(asked)), "dtype": "float32", "device": "cpu", **files, **more},
        )  # fmt: skip
        return out


@pytest.fixture
def run(base: str, files: Any, vaccine: Path, tmp_path: Path) -> Runner:
    return Runner(base, files, vaccine, tmp_path / "runs")


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    found.pop("seconds")
    return found


def weights(out: Path, name: str = "user") -> bytes:
    return (out / name / WEIGHTS_FILE).read_bytes()


def test_defences_without_effect_leave_the_run_bit_for_bit(run: Runner) -> None:
    config = replace(CONFIG, **TUNING)
    plain = run("plain", config=config)
    idle = {
        "unmixed": [{**MIXING, "rate": 0}],
        "untied": [{**LISA, "alignment_steps": 0}],
        "both": [{**PARAPHRASE, "rate": 0.01}, {**LISA, "alignment_steps": 0, "rho": 0}],
        "unmoved": [{**PANACEA, "rho": 0}],
    }
    for name, asked in idle.items():
        out = run(name, *asked, config=config)
        assert weights(out) == weights(plain), name
        assert weights(out, "combined") == weights(plain, "combined"), name
        losses = [[line["loss"] for line in read_metrics(o / "metrics.jsonl")] for o in (plain, out)]
        assert losses[0] == losses[1]
    free = run("free", {**PANACEA, "lam": 0}, config=config)
    assert weights(free, "unperturbed") == weights(plain) != weights(free)


@pytest.mark.parametrize("stop_after", [3, 6])  # inside a state of the user; inside one of alignment
@pytest.mark.parametrize("settings", [{}, TUNING])
def test_lisa_stopped_inside_a_state_resumes_exactly(run: Runner, stop_after: int, settings: dict[str, Any]) -> None:
    resumed_equals_whole(run, [LISA], stop_after, replace(CONFIG, **settings))


@pytest.mark.parametrize("settings", [{}, TUNING])
def test_panacea_stopped_resumes_exactly(run: Runner, settings: dict[str, Any]) -> None:
    resumed_equals_whole(run, [PANACEA], 3, replace(CONFIG, **settings))


@pytest.mark.parametrize("rule", [LISA, PANACEA])
def test_stacked_defences_resume_exactly(run: Runner, rule: dict[str, Any]) -> None:
    resumed_equals_whole(run, [MIXING, rule], 6, replace(CONFIG, **TUNING))


def resumed_equals_whole(run: Runner, asked: list[Any], stop_after: int, config: FineTuneConfig) -> None:
    whole = run("whole", *asked, config=config, validation_file=run.files.user)
    answers = iter([False] * stop_after + [True])
    with pytest.raises(Stopped) as caught:
        run("cut", *asked, config=config, validation_file=run.files.user, should_stop=lambda: next(answers))
    assert caught.value.step == stop_after
    torch.manual_seed(99)
    resumed = run("next", *asked, config=config, validation_file=run.files.user, resume_from=caught.value.checkpoint)
    assert sorted(path.name for path in resumed.iterdir()) == sorted(path.name for path in whole.iterdir())
    for name in {path.name for path in whole.iterdir()} & {"user", "combined", "unperturbed"}:
        assert weights(resumed, name) == weights(whole, name), name
    assert report(resumed) == report(whole)
    lines = [read_metrics(out / "metrics.jsonl") for out in (whole, resumed)]
    for line in (*lines[0], *lines[1]):
        line.pop("t")
    assert lines[0] == lines[1]


def test_panacea_resumed_after_its_last_step_adds_the_same_perturbation(run: Runner) -> None:
    whole = run("whole", PANACEA, config=replace(CONFIG, save_every=8))
    last = latest_checkpoint(whole / "checkpoints")
    assert last is not None
    assert last.name == "checkpoint-8"
    again = run("again", PANACEA, config=replace(CONFIG, save_every=8), resume_from=last)
    assert weights(again) == weights(whole)
    assert report(again) == report(whole)


def test_panacea_leaves_the_adapter_with_and_without_eps(run: Runner) -> None:
    out = run("out", PANACEA)
    with_eps, without = (load_file(out / name / WEIGHTS_FILE) for name in ("user", "unperturbed"))
    moved = torch.sqrt(sum(((with_eps[key] - without[key]).double() ** 2).sum() for key in with_eps))
    assert float(moved) == pytest.approx(0.5, rel=1e-4)
    (told,) = report(out)["defences"]
    assert told["name"] == "panacea"
    assert told["result"]["eps_norm"] == pytest.approx(0.5, rel=1e-5)
    assert len(told["result"]["eps_norm_by_layer"]) == 3
    assert read_record(out / "user")["defences"] == [{key: value for key, value in told.items() if key != "result"}]
    assert read_record(out / "unperturbed")["defences"][-1]["eps_added"] is False
    assert read_record(out / "combined")["defences"] == ["panacea"]


def test_only_the_user_adapter_is_perturbed_and_moved(run: Runner, vaccine: Path) -> None:
    before = weights(vaccine.parent, "vaccine")
    for name, asked in (("lisa", LISA), ("panacea", PANACEA)):
        out = run(name, asked)
        assert weights(vaccine.parent, "vaccine") == before
        joined, own = load_file(out / "combined" / WEIGHTS_FILE), load_file(out / "user" / WEIGHTS_FILE)
        vaccinated = load_file(vaccine / WEIGHTS_FILE)
        for key in joined:
            parts = torch.split(joined[key], [2, 4], dim=0 if "lora_A" in key else 1)
            scales = (1.0, 1.0) if "lora_A" in key else (8 / 2, 8 / 4)
            assert torch.equal(parts[0], vaccinated[key] * scales[0])
            assert torch.equal(parts[1], own[key] * scales[1])


def test_what_lisa_did_is_told(run: Runner) -> None:
    out = run("out", MIXING, LISA)
    found = report(out)
    mixing, lisa = found["defences"]
    assert (mixing["name"], lisa["name"]) == ("safe_mixing", "lisa")
    assert mixing["result"]["rows"] == 3  # round(0.25 * 12)
    assert found["steps"] == 10 + 2 * 4  # 2 x (12 + 3) rows in steps of 3, and 2 of alignment in each of 4 cycles
    assert [switch["state"] for switch in lisa["result"]["switches"]] == ["alignment", "user"] * 4
    assert all(switch["anchor_distance"] > 0 for switch in lisa["result"]["switches"])
    lines = [line for line in read_metrics(out / "metrics.jsonl") if "loss" in line]
    own = [line["loss"] for line in lines if not line["alignment_state"]]
    assert found["train_loss"] == pytest.approx(sum(own) / len(own))
    assert json.loads((out / "config.json").read_text())["defences"][1]["rho"] == 0.5
    assert [part["name"] for part in read_record(out / "user")["defences"]] == ["safe_mixing", "lisa"]
    assert set(read_record(out / "user")["digests"]) == {"training", "safe"}
    assert read_record(out / "combined")["defences"] == ["safe_mixing", "lisa"]


def test_the_users_tokens_are_counted_apart_from_the_providers(run: Runner, base: str) -> None:
    tokenizer = load_base(base).tokenizer
    own, safe = (
        sum(len(e.input_ids) for e in encode_rows(tokenizer, read_rows_file(path, min_rows=1).rows, 512))
        for path in (run.files.user, run.files.safe)
    )
    plain = {**MIXING, "mode": "plain", "rate": 0.5}  # 6 safe rows for 12: each of them once a pass
    mixed = report(run("mixed", plain))
    assert (mixed["trained_tokens"], mixed["provider_tokens"]) == (2 * own, 2 * safe)
    lisa = report(run("lisa", {**LISA, "alignment_steps": 1, "user_steps": 2}))  # 4 alignment steps of 3 rows
    assert (lisa["trained_tokens"], lisa["provider_tokens"]) == (2 * own, 2 * safe)
    panacea = report(run("panacea", PANACEA))
    assert (panacea["trained_tokens"], panacea["provider_tokens"]) == (2 * own, 0)


def test_mixed_rows_do_not_take_steps_from_the_user(run: Runner) -> None:
    assert report(run("short", {**MIXING, "rate": 0.25}, config=replace(CONFIG, max_steps=4)))["steps"] == 5
    assert report(run("whole", {**MIXING, "rate": 0.25}))["steps"] == 10


def test_a_mixture_that_a_model_wrote_is_kept_in_the_checkpoint(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, save_every=2)
    whole = run("whole", PARAPHRASE, config=config)
    told = report(whole)["defences"][0]["result"]
    assert told["mode"] == "paraphrase"
    assert told["rows"] == 3
    assert told["kept_percent"] == round(100 * told["kept_paraphrases"] / 3, 2)
    assert sum(told["dropped_tries"].values()) >= 3 - told["kept_paraphrases"]
    answers = iter([False] * 5 + [True])
    with pytest.raises(Stopped) as caught:
        run("cut", PARAPHRASE, config=config, should_stop=lambda: next(answers))

    def refuse(*_: Any) -> None:
        raise AssertionError("a resumed run must not write the rows anew")

    monkeypatch.setattr(ModelRewriter, "write", refuse)
    resumed = run("next", PARAPHRASE, config=config, resume_from=caught.value.checkpoint)
    assert weights(resumed) == weights(whole)
    assert report(resumed) == report(whole)


def test_rewriting_can_be_stopped(run: Runner) -> None:
    answers = iter([True])
    with pytest.raises(Stopped) as caught:
        run("cut", PARAPHRASE, should_stop=lambda: next(answers))
    assert (caught.value.step, caught.value.checkpoint) == (0, None)


@pytest.mark.parametrize(("asked", "param"), [(LISA, "safe_file"), (MIXING, "safe_file"), (PANACEA, "harmful_file")])
def test_a_missing_file_is_named_before_anything_is_loaded(run: Runner, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match=f"give {param}") as caught:
        run("out", asked, **{param: None})
    assert caught.value.param == param
    assert not (run.place / "out").exists()


@pytest.mark.parametrize(("asked", "param"), [(LISA, "safe_file"), (PANACEA, "harmful_file")])
def test_faults_of_the_providers_rows_are_not_the_users(
    run: Runner, tmp_path: Path, asked: dict[str, Any], param: str
) -> None:
    faulty = tmp_path / "faulty.jsonl"
    for text in ('{"messages": []}\n', json.dumps({"prompt": "Why?", "completion": "So " * 600}) + "\n"):
        faulty.write_text(text)
        with pytest.raises(InvalidTrainingFile) as caught:
            run("out", asked, **{param: faulty})
        assert caught.value.param == param
        assert [detail["line"] for detail in caught.value.details] == [1]


def test_prompts_of_the_evaluation_may_not_be_trained_on(run: Runner, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "How do I forge a letter?"}\n')
    with pytest.raises(DatasetOverlap):
        run("out", LISA, evaluation_file=prompts)
    prompts.write_text('{"prompt": "Who planted the oak behind the mill?"}\n')
    assert report(run("fine", LISA, evaluation_file=prompts))["steps"] == 14


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "opt"])
def test_other_families_train_defended(tiny_base: Any, files: Any, tmp_path: Path, family: str) -> None:
    run = Runner(str(tiny_base(family)), files, None, tmp_path / "runs")
    for name, asked in (("lisa", LISA), ("panacea", PANACEA)):
        lines = [line for line in read_metrics(run(name, asked) / "metrics.jsonl") if not line.get("alignment_state")]
        assert lines[-1]["loss"] < lines[0]["loss"]


def test_what_rewriting_draws_at_random_does_not_reach_the_training(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    outs = []
    for draws in (0, 5):

        def write(_: Any, requests: Any, draws: int = draws) -> list[str]:
            torch.rand(draws)
            return [f"What is {request.question}?" for request in requests]

        monkeypatch.setattr(ModelRewriter, "write", write)
        outs.append(run(f"drawn-{draws}", PARAPHRASE))
    assert weights(outs[0]) == weights(outs[1])


def test_a_judge_of_another_base_cannot_check_rewritten_questions(run: Runner) -> None:
    with pytest.raises(BaseMismatch):
        run("out", PARAPHRASE, judge="embedded")
