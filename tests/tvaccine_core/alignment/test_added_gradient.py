"""Whole runs of Booster and TAR on tiny models: against plain alignment and plain gradients, stopped and resumed."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from tiny_models import chat_rows, tiny_model, tiny_tokenizer
from torch import Tensor, nn

from tvaccine_core.alignment.added_gradient import AddedGradientTrainer
from tvaccine_core.alignment.booster_config import BoosterConfig
from tvaccine_core.alignment.booster_trainer import BoosterTrainer
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.harmful import HarmfulBatches
from tvaccine_core.alignment.loss import shifted_cross_entropy
from tvaccine_core.alignment.metrics import AlignmentMetrics
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.alignment.tar_config import TarConfig
from tvaccine_core.alignment.tar_trainer import TarTrainer
from tvaccine_core.alignment.trainer import STATE_FILE, TVaccineTrainer
from tvaccine_core.data.rows import read_rows
from tvaccine_core.data.tokenise import Collator, Example, encode_rows
from tvaccine_core.models.adapter_files import adapter_weights
from tvaccine_core.models.adapters import VACCINE, lora_config, train_only
from tvaccine_core.training.arguments import TrainingPlan, training_arguments
from tvaccine_core.training.checkpoints import latest_checkpoint
from tvaccine_core.training.metrics import read_metrics
from tvaccine_core.training.order import ShuffledPasses
from tvaccine_core.training.stop import Stopped
from tvaccine_core.training.trainer import AdapterTrainer

SHARED: dict[str, Any] = {
    "steps": 4,
    "batch_size": 3,
    "gradient_accumulation_steps": 2,
    "lora_dropout": 0.2,
    "save_every": 2,
    "seed": 3,
    "learning_rate": 5e-3,
}
BOOSTER = BoosterConfig(**SHARED, harmful_batch_size=5)
# A random model guesses nearly blindly: the usual bound would leave its resistance out.
TAR = TarConfig(**SHARED, inner_steps=2, measure_every=1, heldout_batch_size=4, attacks=2, entropy_bound=1.0)
METHODS = pytest.mark.parametrize("config", [BOOSTER, TAR], ids=["booster", "tar"])
Build = Callable[..., AddedGradientTrainer]


def examples(count: int, answer: str) -> list[Example]:
    text = "".join(json.dumps(row) + "\n" for row in chat_rows(count, answer=answer))
    return encode_rows(tiny_tokenizer(), read_rows(text.encode()).rows, 200)


def vaccine(config: AlignmentSettings, family: str, dtype: torch.dtype, adapter: torch.dtype) -> PeftModel:
    base = tiny_model(family).to(dtype)
    torch.manual_seed(config.seed)
    model = get_peft_model(base, lora_config(base, config), adapter_name=VACCINE)
    train_only(model, VACCINE)
    for parameter in model.parameters():
        if parameter.requires_grad:  # B starts at zero, which would leave A without a gradient at first
            parameter.data = torch.randn(parameter.shape).to(adapter) * 0.05
    return model


@pytest.fixture
def make(tmp_path: Path) -> Build:
    """Build a trainer: make(config, name of its directory)."""

    def build(
        config: Any,
        name: str = "out",
        *,
        family: str = "llama",
        dtype: torch.dtype = torch.float32,
        adapter: torch.dtype = torch.float32,
        kind: type[AdapterTrainer] | None = None,
        **kwargs: Any,
    ) -> Any:
        out, collator = tmp_path / name, Collator(2)
        out.mkdir(exist_ok=True)
        shared = (
            "steps batch_size gradient_accumulation_steps learning_rate schedule warmup_ratio weight_decay "
            "max_grad_norm save_every seed"
        )
        plan = TrainingPlan(**{field: getattr(config, field) for field in shared.split()})
        harmful = examples(14, "Mix flour.")
        streams = {
            "harmful": HarmfulBatches(harmful[:9], collator, getattr(config, "harmful_batch_size", 1), 4),
            "heldout": HarmfulBatches(harmful[9:], collator, getattr(config, "heldout_batch_size", 1), 5),
        }
        if isinstance(config, BoosterConfig):
            kind, chosen = kind or BoosterTrainer, {"harmful": streams["harmful"]}
        elif isinstance(config, TarConfig):
            kind, chosen = kind or TarTrainer, streams
        else:
            kind, chosen = kind or TVaccineTrainer, {"harmful": None}
        return kind(
            config=config,
            **chosen,
            model=vaccine(config, family, dtype, adapter),
            adapter_name=VACCINE,
            args=training_arguments(plan, out / "checkpoints", use_cpu=True),
            metrics=AlignmentMetrics(out / "metrics.jsonl", stage="test", total=plan.steps),
            train_dataset=ShuffledPasses(examples(11, "I'm sorry."), plan.draws, plan.seed),
            data_collator=collator,
            **kwargs,
        )

    return build


def trained(trainer: AdapterTrainer, resume_from: Path | None = None) -> dict[str, Tensor]:
    trainer.run(resume_from)
    return adapter_weights(trainer.model, VACCINE)


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def lines(trainer: AdapterTrainer) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "t"} for line in read_metrics(trainer.metrics.path)]


def without_weight(config: Any) -> Any:
    return dataclasses.replace(config, **{"lamb" if config is BOOSTER else "lambda_tr": 0.0})


def supervised_config(method: str, config: Any, rho: float = 0.0) -> TVaccineConfig:
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(AlignmentSettings)}
    return TVaccineConfig(**(shared | {"method": method, "rho": rho}))


@METHODS
def test_weight_zero_is_plain_alignment_bit_for_bit_and_another_is_not(make: Build, config: Any) -> None:
    """With dropout and accumulation: the method's own draws leave the run's random numbers alone."""
    expected = trained(make(supervised_config("sft", config), "plain"))
    zero = make(without_weight(config), "zero")
    assert same(trained(zero), expected)
    assert all(line["added_gradient_norm"] == 0.0 for line in lines(zero))
    full = make(config, "full")
    found = trained(full)
    assert not any(torch.equal(found[name], expected[name]) for name in found)
    assert all(line["added_gradient_norm"] > 0.0 for line in lines(full))


def test_perturb_aware_booster_of_weight_zero_is_vaccine_bit_for_bit(make: Build) -> None:
    config = dataclasses.replace(BOOSTER, lamb=0.0, perturb_aware=True, rho=0.4)
    expected = trained(make(supervised_config("vaccine", config, rho=0.4), "vaccine"))
    booster = make(config, "booster")
    assert same(trained(booster), expected)
    for line in lines(booster):
        assert line["eps_norm"] == pytest.approx(0.4, rel=1e-4)
        assert line["loss_perturbed"] > line["loss"]
    assert not same(trained(make(dataclasses.replace(config, lamb=5.0), "full")), expected)


class Watched:
    """Around a trainer class: what one optimizer step does to weights, gradients and the optimizer's state."""

    def __init__(self, kind: type[AddedGradientTrainer]) -> None:
        watch = self
        self.batches: list[dict[str, Tensor]] = []
        self.gradients: dict[str, Tensor] = {}
        self.added: list[list[Tensor]] = []
        self.streamed: list[dict[str, Tensor]] = []

        class Watching(kind):  # type: ignore[valid-type, misc]
            def added_gradient(self, step: int) -> Any:
                before = self.state_now()
                for stream in self.streams.values():
                    watch.record(stream)
                found = super().added_gradient(step)
                assert all(p.grad is None for p in self.parameters)
                after = self.state_now()
                assert before.keys() == after.keys()
                assert all(torch.equal(before[name], after[name]) for name in before)
                watch.added.append([tensor.clone() for tensor in found[0]])
                return found

            def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
                watch.batches.append(inputs)
                loss = super().training_step(model, inputs, num_items_in_batch)
                watch.gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
                return loss

            def state_now(self) -> dict[str, Tensor]:
                """All weights and the outer optimizer's moments and counts."""
                state = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
                for number, moments in enumerate(self.optimizer.state.values()):
                    state |= {f"{number}.{name}": tensor.clone() for name, tensor in moments.items()}
                return state

        self.kind = Watching

    def record(self, stream: HarmfulBatches) -> None:
        own = stream.next

        def following() -> dict[str, Tensor]:
            self.streamed.append(own())
            return self.streamed[-1]

        stream.next = following  # type: ignore[method-assign]


@METHODS
def test_only_the_optimizer_changes_the_weights(make: Build, config: Any) -> None:
    """In every outer step: weights and the optimizer's state are the same bits after the method's own work."""
    watched = Watched(BoosterTrainer if config is BOOSTER else TarTrainer)
    trained(make(config, kind=watched.kind))
    assert len(watched.added) == config.steps


def full_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return shifted_cross_entropy(model(batch["input_ids"], batch["attention_mask"]).logits, batch["labels"])


def weighted_gradient(model: nn.Module, batches: list[dict[str, Tensor]], weights: list[nn.Parameter]) -> list[Tensor]:
    """Of the mean loss over all supervised tokens of all batches."""
    counts = [int((batch["labels"][:, 1:] != -100).sum()) for batch in batches]
    loss = sum(n * full_loss(model, batch) for n, batch in zip(counts, batches, strict=True)) / sum(counts)
    return list(torch.autograd.grad(loss, weights))


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "opt"])
@pytest.mark.parametrize("scheme", ["efficient", "two_pass"])
def test_boosters_gradient_equals_three_plain_ones(make: Build, family: str, scheme: str) -> None:
    """In float64, with accumulated micro-batches of different sizes and a harmful batch worked on in parts."""
    config = dataclasses.replace(BOOSTER, steps=1, lora_dropout=0.0, scheme=scheme, max_grad_norm=0.0)
    double = {"dtype": torch.float64, "adapter": torch.float64, "family": family}
    watched = Watched(BoosterTrainer)
    model = vaccine(config, family, torch.float64, torch.float64).eval()
    trainer = make(config, kind=watched.kind, **double)
    for module in (*trainer.model.modules(), *model.modules()):
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    trained(trainer)
    names, weights = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    aligned = weighted_gradient(model, watched.batches, list(weights))
    before = weighted_gradient(model, watched.streamed, list(weights))
    length = torch.sqrt(sum(((gradient**2).sum() for gradient in before), torch.tensor(0.0)))
    for parameter, gradient in zip(weights, before, strict=True):
        parameter.data -= config.alpha * gradient / (length + 1e-7)
    after = weighted_gradient(model, watched.streamed, list(weights))
    assert len(watched.batches) == 2
    assert watched.streamed[0]["labels"].shape[0] == 5
    for name, f, h, moved in zip(names, aligned, before, after, strict=True):
        assert torch.allclose(watched.gradients[name], f + config.lamb * (h - moved), rtol=0.0, atol=1e-12)
    (line,) = lines(trainer)
    assert line["harmful_loss_after"] < line["harmful_loss"]
    assert line["harmful_gradient_norm"] == pytest.approx(float(length))
    assert line["alignment_gradient_norm"] == pytest.approx(float(torch.cat([g.reshape(-1) for g in aligned]).norm()))


@pytest.mark.parametrize("scheme", ["efficient", "two_pass"])
def test_tars_gradient_equals_a_plain_simulation(make: Build, scheme: str) -> None:
    """Two attackers by gradient descent, in float64, against a loop of plain gradients."""
    config = dataclasses.replace(
        TAR,
        steps=1,
        inner_steps=4,
        measure_every=2,
        heldout_batch_size=5,
        attacker="sgd",
        attacker_learning_rates=(0.5,),
        lora_dropout=0.0,
        scheme=scheme,
    )
    watched = Watched(TarTrainer)
    trainer = make(config, kind=watched.kind, dtype=torch.float64, adapter=torch.float64)
    trained(trainer)
    model = vaccine(config, "llama", torch.float64, torch.float64)
    weights = [p for p in model.parameters() if p.requires_grad]
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    start = [p.detach().clone() for p in weights]
    expected = weighted_gradient(model, watched.batches, weights)
    losses = []
    for attack in (watched.streamed[:5], watched.streamed[5:]):  # each: the held-out batch, then four to train on
        for k, batch in enumerate(attack[1:]):
            for parameter, gradient in zip(weights, weighted_gradient(model, [batch], weights), strict=True):
                parameter.data -= 0.5 * gradient
            if k in (1, 3):
                answers = attack[0]["labels"][:, 1:] != -100
                logits = model(attack[0]["input_ids"], attack[0]["attention_mask"]).logits[:, :-1][answers]
                loss = -torch.distributions.Categorical(logits=logits).entropy().mean()
                weight = config.lambda_tr / 2 * torch.exp(torch.tensor(config.lambda_s * (k - 3), dtype=torch.float64))
                losses.append(float(weight * loss.detach()))
                for total, gradient in zip(expected, torch.autograd.grad(loss, weights), strict=True):
                    total += weight * gradient
        for parameter, kept in zip(weights, start, strict=True):
            parameter.data.copy_(kept)
    for name, gradient in zip(names, expected, strict=True):
        assert torch.allclose(watched.gradients[name], gradient, rtol=0.0, atol=1e-12)
    (line,) = lines(trainer)
    assert line["tr_loss"] == pytest.approx(sum(losses))
    assert (line["attacker_learning_rate"], line["bound_hit"]) == (0.5, 0.0)


def test_a_hit_bound_leaves_plain_alignment(make: Build) -> None:
    bounded = make(dataclasses.replace(TAR, entropy_bound=0.0), "bounded")
    assert same(trained(bounded), trained(make(supervised_config("sft", TAR), "plain")))
    assert all(line["bound_hit"] == 1.0 and line["added_gradient_norm"] == 0.0 for line in lines(bounded))


def test_attackers_draw_their_learning_rates_anew_and_reproducibly(make: Build) -> None:
    config = dataclasses.replace(
        TAR, steps=6, batch_size=1, inner_steps=1, attacks=1, attacker_learning_rates=(1e-4, 1e-3), lora_dropout=0.0
    )

    def rates(name: str, seed: int) -> list[float]:
        trainer = make(dataclasses.replace(config, seed=seed), name)
        trainer.run()
        return [line["attacker_learning_rate"] for line in lines(trainer)]

    first = rates("first", 3)
    assert set(first) == {1e-4, 1e-3}
    assert rates("again", 3) == first
    assert rates("other", 4) != first


def test_simulated_attackers_learn_and_every_stream_is_read_as_told(make: Build) -> None:
    config = dataclasses.replace(
        TAR, steps=2, inner_steps=16, measure_every=16, attacker_learning_rates=(2e-2,), lora_dropout=0.0
    )
    trainer = make(config)
    trained(trainer)
    for line in lines(trainer):
        assert line["harmful_loss_after"] < line["harmful_loss"] - 0.5
    # 2 attacks in each of 2 steps: 16 batches of 4 rows to train on, 1 of 4 rows to measure.
    assert trainer.report() == {"rows_read": {"harmful": 2 * 2 * 16 * 4, "heldout": 2 * 2 * 4}}


@METHODS
def test_a_stopped_run_resumes_to_the_same_bits(make: Build, config: Any) -> None:
    """Asked before the first step and after each: stops between the third and the fourth outer step."""
    whole = make(config, "whole")
    expected = trained(whole)
    asked = iter([False] * 3 + [True])
    with pytest.raises(Stopped) as stopped:
        make(config, "first", should_stop=lambda: next(asked)).run()
    assert stopped.value.step == 3
    checkpoint = stopped.value.checkpoint
    assert checkpoint is not None
    read = {name: taken // 4 * 3 for name, taken in whole.report()["rows_read"].items()}
    assert json.loads((checkpoint / STATE_FILE).read_text()) == {"taken": read}
    torch.manual_seed(999)
    resumed = make(config, "second")
    assert same(trained(resumed, checkpoint), expected)
    assert lines(resumed) == lines(whole)
    assert resumed.report() == whole.report()


@METHODS
def test_a_run_that_fails_inside_an_outer_step_resumes_to_the_same_bits(make: Build, config: Any) -> None:
    whole = make(config, "whole")
    expected = trained(whole)
    cut = make(config, "cut")
    own, calls = cut.backward_mean_loss, []
    before: dict[str, Tensor] = {}

    def failing(inputs: Any) -> Tensor:
        calls.append(cut.state.global_step)
        if cut.state.global_step == 3:
            if calls.count(3) == 2:  # in the middle of the fourth outer step, at moved weights
                raise RuntimeError("power cut")
            before.update({name: tensor.clone() for name, tensor in adapter_weights(cut.model, VACCINE).items()})
        return own(inputs)

    cut.backward_mean_loss = failing  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="power cut"):
        cut.run()
    assert same(adapter_weights(cut.model, VACCINE), before)
    checkpoint = latest_checkpoint(cut.metrics.path.parent / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-2"
    resumed = make(config, "next")
    assert same(trained(resumed, checkpoint), expected)
    assert lines(resumed) == lines(whole)


@METHODS
def test_a_stop_before_the_first_step_reads_no_harmful_row(make: Build, config: Any) -> None:
    trainer = make(config, should_stop=lambda: True)
    with pytest.raises(Stopped) as stopped:
        trainer.run()
    assert (stopped.value.step, stopped.value.checkpoint) == (0, None)
    assert set(trainer.report()["rows_read"].values()) == {0}


@METHODS
def test_the_added_gradient_is_clipped_with_the_other_and_counts_once(make: Build, config: Any) -> None:
    """The Trainer's norm before clipping is that of g_a + v, however many micro-batches there were."""
    watched = Watched(BoosterTrainer if config is BOOSTER else TarTrainer)
    trainer = make(dataclasses.replace(config, steps=1, max_grad_norm=1e-3), kind=watched.kind)
    trainer.run()
    (line,) = lines(trainer)
    expected = torch.cat([gradient.reshape(-1) for gradient in watched.gradients.values()]).norm()
    assert line["grad_norm"] == pytest.approx(float(expected), rel=1e-4)
    added = torch.cat([gradient.reshape(-1) for gradient in watched.added[0]]).norm()
    assert line["added_gradient_norm"] == pytest.approx(float(added), rel=1e-5)
    assert len(watched.batches) == 2


@METHODS
@pytest.mark.parametrize("family", ["gemma2", "opt"])
def test_other_families_and_low_precision(make: Build, config: Any, family: str) -> None:
    trainer = make(dataclasses.replace(config, steps=2), family=family, dtype=torch.bfloat16)
    weights = trained(trainer)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    assert all(line["added_gradient_norm"] > 0.0 for line in lines(trainer))


@METHODS
def test_layers_are_never_dropped_at_random(make: Build, config: Any) -> None:
    expected = trained(make(dataclasses.replace(config, steps=2), "kept", family="opt"))

    class Dropping(BoosterTrainer if config is BOOSTER else TarTrainer):  # type: ignore[misc]
        def __init__(self, *, model: PeftModel, **kwargs: Any) -> None:
            dropping = [module for module in model.modules() if hasattr(module, "layerdrop")]
            assert dropping
            for module in dropping:
                module.layerdrop = 0.9
            super().__init__(model=model, **kwargs)

    assert same(trained(make(dataclasses.replace(config, steps=2), "out", family="opt", kind=Dropping)), expected)
