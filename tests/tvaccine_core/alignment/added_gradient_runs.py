"""What tests of whole runs of Booster and TAR share: small configurations, trainers and a watch over their steps."""

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
from tvaccine_core.alignment.metrics import AlignmentMetrics
from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.alignment.tar_config import TarConfig
from tvaccine_core.alignment.tar_trainer import TarTrainer
from tvaccine_core.alignment.trainer import TVaccineTrainer
from tvaccine_core.data.rows import read_rows
from tvaccine_core.data.tokenise import Collator, Example, encode_rows
from tvaccine_core.models.adapter_files import adapter_weights
from tvaccine_core.models.adapters import VACCINE, lora_config, train_only
from tvaccine_core.training.arguments import TrainingPlan, training_arguments
from tvaccine_core.training.metrics import read_metrics
from tvaccine_core.training.order import ShuffledPasses
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


def builder(parent: Path) -> Build:
    """A function that builds a trainer: build(config, name of its directory under parent)."""

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
        out, collator = parent / name, Collator(2)
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
