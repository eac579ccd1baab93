"""The trainer: one adapter trains, and stopping, crashing and resuming change nothing in the result."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny_models import chat_rows
from transformers import TrainerCallback, set_seed

from tvaccine_core.data.rows import read_rows
from tvaccine_core.data.tokenise import Collator, encode_rows
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.models.adapter_files import WEIGHTS_FILE, adapter_weights
from tvaccine_core.models.adapters import USER, VACCINE, add_user_adapter, lora_config, train_only
from tvaccine_core.models.base import load_base
from tvaccine_core.training.arguments import TrainingPlan, training_arguments
from tvaccine_core.training.checkpoints import is_complete, latest_checkpoint
from tvaccine_core.training.metrics import MetricsWriter, read_metrics
from tvaccine_core.training.order import ShuffledPasses
from tvaccine_core.training.stop import Stopped
from tvaccine_core.training.trainer import AdapterTrainer

PLAN = TrainingPlan(
    steps=9,
    batch_size=2,
    learning_rate=1e-2,
    schedule="cosine",
    warmup_ratio=0.2,
    weight_decay=0.1,
    max_grad_norm=1.0,
    save_every=3,
    seed=5,
)


class PowerCutError(Exception):
    pass


class PowerCut(TrainerCallback):
    """Kills the run during a step, long after its last checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise PowerCutError


def vaccinated(directory: Path, dropout: float = 0.0) -> PeftModel:
    """A tiny base with a random vaccine and a fresh user adapter, always the same."""
    base = load_base(str(directory), dtype="float32", device="cpu")
    set_seed(5)
    model = add_user_adapter(base.model, FineTuneConfig(lora_dropout=dropout))
    model.add_adapter(VACCINE, lora_config(model, FineTuneConfig(lora_r=4)))
    for name, value in model.named_parameters():
        if f".{VACCINE}." in name:
            value.data = torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1
    # The vaccine comes first, as in a real run: what PEFT and the Trainer touch by mistake is the first adapter.
    model.peft_config = {name: model.peft_config[name] for name in (VACCINE, USER)}
    train_only(model, USER)
    return model


@pytest.fixture
def make(tiny_base: Callable[[str], Path]) -> Callable[..., AdapterTrainer]:
    def build(out: Path, plan: TrainingPlan = PLAN, dropout: float = 0.0, **kwargs: Any) -> AdapterTrainer:
        directory = tiny_base("llama")
        tokenizer = load_base(str(directory)).tokenizer
        data = "".join(json.dumps(row) + "\n" for row in chat_rows(11)).encode()
        examples = encode_rows(tokenizer, read_rows(data).rows, 200)
        out.mkdir(parents=True, exist_ok=True)
        return AdapterTrainer(
            model=vaccinated(directory, dropout),
            adapter_name=USER,
            args=training_arguments(plan, out / "checkpoints", use_cpu=True),
            metrics=MetricsWriter(out / "metrics.jsonl", stage="test", total=plan.steps),
            train_dataset=ShuffledPasses(examples, plan.draws, plan.seed),
            data_collator=Collator(tokenizer.pad_token_id),
            **kwargs,
        )

    return build


def losses(out: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_metrics(out / "metrics.jsonl")]


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_only_the_named_adapter_changes(make: Callable[..., AdapterTrainer], tmp_path: Path) -> None:
    trainer = make(tmp_path)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.run()
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name]) != (f".{USER}." in name), name
    curve = losses(tmp_path)
    assert [step for step, _ in curve] == list(range(1, 10))
    assert sum(loss for _, loss in curve[-3:]) < sum(loss for _, loss in curve[:3])
    assert {"grad_norm", "learning_rate", "t", "stage", "total"} <= read_metrics(tmp_path / "metrics.jsonl")[0].keys()


def test_a_killed_run_resumes_to_the_same_bits(make: Callable[..., AdapterTrainer], tmp_path: Path) -> None:
    whole = make(tmp_path / "whole")
    whole.run()

    with pytest.raises(PowerCutError):
        make(tmp_path / "cut", callbacks=[PowerCut(5)]).run()
    assert [step for step, _ in losses(tmp_path / "cut")] == [1, 2, 3, 4]
    checkpoint = latest_checkpoint(tmp_path / "cut" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-3"
    torch.manual_seed(999)
    resumed = make(tmp_path / "next")
    for value in resumed.model.parameters():
        if value.requires_grad:
            value.data.fill_(7.0)  # whatever was there, the checkpoint decides
    resumed.run(checkpoint)
    assert same(adapter_weights(resumed.model, USER), adapter_weights(whole.model, USER))
    assert same(adapter_weights(resumed.model, VACCINE), adapter_weights(whole.model, VACCINE))
    assert resumed.model.base_model.active_adapters == [VACCINE, USER]
    assert losses(tmp_path / "next") == losses(tmp_path / "whole")
    assert (tmp_path / "next/checkpoints/checkpoint-9" / WEIGHTS_FILE).read_bytes() == (
        tmp_path / "whole/checkpoints/checkpoint-9" / WEIGHTS_FILE
    ).read_bytes()


def test_dropout_and_accumulation_resume_to_the_same_bits_too(
    make: Callable[..., AdapterTrainer], tmp_path: Path
) -> None:
    from dataclasses import replace

    plan = replace(PLAN, gradient_accumulation_steps=3, steps=6, save_every=2)
    whole = make(tmp_path / "whole", plan, dropout=0.3)
    whole.run()
    with pytest.raises(PowerCutError):
        make(tmp_path / "cut", plan, dropout=0.3, callbacks=[PowerCut(5)]).run()
    resumed = make(tmp_path / "next", plan, dropout=0.3)
    resumed.run(latest_checkpoint(tmp_path / "cut" / "checkpoints"))
    assert same(adapter_weights(resumed.model, USER), adapter_weights(whole.model, USER))
    assert losses(tmp_path / "next") == losses(tmp_path / "whole")


def test_a_stopped_run_saves_where_it_stopped_and_resumes_in_place(
    make: Callable[..., AdapterTrainer], tmp_path: Path
) -> None:
    whole = make(tmp_path / "whole")
    whole.run()
    asked = iter([False] * 5 + [True])
    with pytest.raises(Stopped) as caught:
        make(tmp_path / "run", should_stop=lambda: next(asked)).run()
    assert caught.value.step == 5
    assert caught.value.checkpoint == latest_checkpoint(tmp_path / "run" / "checkpoints")
    resumed = make(tmp_path / "run")
    resumed.run(caught.value.checkpoint)
    assert same(adapter_weights(resumed.model, USER), adapter_weights(whole.model, USER))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_stop_before_the_first_step_trains_nothing(make: Callable[..., AdapterTrainer], tmp_path: Path) -> None:
    with pytest.raises(Stopped) as caught:
        make(tmp_path, should_stop=lambda: True).run()
    assert (caught.value.step, caught.value.checkpoint) == (0, None)


def test_a_run_at_its_last_step_is_left_to_finish(make: Callable[..., AdapterTrainer], tmp_path: Path) -> None:
    trainer: AdapterTrainer = make(tmp_path, should_stop=lambda: trainer.state.global_step >= 9)
    trainer.run()
    assert trainer.state.global_step == 9


def test_a_finished_run_resumes_to_nothing_more(make: Callable[..., AdapterTrainer], tmp_path: Path) -> None:
    first = make(tmp_path)
    first.run()
    again = make(tmp_path)
    again.run(latest_checkpoint(tmp_path / "checkpoints"))
    assert same(adapter_weights(again.model, USER), adapter_weights(first.model, USER))
    assert len(losses(tmp_path)) == 9


def test_checkpoints_hold_one_adapter_and_nothing_that_needs_unpickling(
    make: Callable[..., AdapterTrainer], tmp_path: Path
) -> None:
    make(tmp_path).run()
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == ["checkpoint-6", "checkpoint-9"]
    checkpoint = tmp_path / "checkpoints" / "checkpoint-9"
    assert is_complete(checkpoint)
    assert {path.name for path in checkpoint.iterdir()} == {
        "COMPLETE",
        "adapter_config.json",
        WEIGHTS_FILE,
        "metrics.jsonl",
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "trainer_state.json",
    }
    assert not any(VACCINE in key for key in load_file(checkpoint / WEIGHTS_FILE))


def test_optimizer_and_random_states_are_loaded_as_weights_only(
    make: Callable[..., AdapterTrainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PowerCutError):
        make(tmp_path, callbacks=[PowerCut(4)]).run()
    loaded: dict[str, Any] = {}
    load = torch.load

    def spy(path: Any, *args: Any, **kwargs: Any) -> Any:
        loaded[Path(path).name] = kwargs.get("weights_only")
        return load(path, *args, **kwargs)

    monkeypatch.setattr(torch, "load", spy)
    make(tmp_path).run(latest_checkpoint(tmp_path / "checkpoints"))
    assert loaded == {"optimizer.pt": True, "scheduler.pt": True, "rng_state.pth": True}


def test_a_checkpoint_that_was_not_finished_is_refused(make: Callable[..., AdapterTrainer], tmp_path: Path) -> None:
    make(tmp_path).run()
    checkpoint = tmp_path / "checkpoints" / "checkpoint-9"
    (checkpoint / "COMPLETE").unlink()
    assert latest_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "checkpoint-6"
    with pytest.raises(InvalidRequest, match="earlier one"):
        make(tmp_path).run(checkpoint)


def test_a_loss_that_is_no_number_ends_the_run_before_a_checkpoint_of_it(
    make: Callable[..., AdapterTrainer], tmp_path: Path
) -> None:
    trainer = make(tmp_path)
    next(p for p in trainer.model.parameters() if p.requires_grad).data.fill_(float("nan"))
    with pytest.raises(InvalidRequest, match="learning rate") as caught:
        trainer.run()
    assert caught.value.code == "training_diverged"
    assert latest_checkpoint(tmp_path / "checkpoints") is None
    assert losses(tmp_path) == [(1, None)]


def test_a_subclass_adds_its_numbers_to_each_line(
    make: Callable[..., AdapterTrainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdapterTrainer, "step_metrics", lambda self: {"drawn": 3.0})
    make(tmp_path).run()
    assert {line["drawn"] for line in read_metrics(tmp_path / "metrics.jsonl")} == {3.0}


def test_nothing_is_printed(
    make: Callable[..., AdapterTrainer], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = make(tmp_path)
    capfd.readouterr()
    trainer.run()
    assert capfd.readouterr().out == ""
