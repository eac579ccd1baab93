"""A tiny base, files of rows, and defended trainers in float64, for the tests of fine-tuning."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor
from transformers import set_seed

from tvaccine_core.data.rows import read_rows_file
from tvaccine_core.data.tokenise import Collator, Example, encode_rows
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.defences import Defence
from tvaccine_core.finetuning.defended_trainer import DefendedTrainer
from tvaccine_core.finetuning.trainers import Course, make_trainer, plot_course
from tvaccine_core.finetuning.training_rows import TrainingRows
from tvaccine_core.models.adapter_files import save_adapter
from tvaccine_core.models.adapter_records import write_record
from tvaccine_core.models.adapters import add_user_adapter, add_vaccine, lora_config
from tvaccine_core.models.base import load_base

REFUSALS = ("I'm sorry, but I can't help with that request.", "I won't help with that; ask for something else.")


@dataclass(frozen=True)
class Files:
    """Files of a run: the user's rows, safe ones and harmful ones."""

    user: Path
    safe: Path
    harmful: Path


def write_rows_to(path: Path, pairs: Sequence[tuple[str, str]], system: str | None = None) -> Path:
    before = [] if system is None else [{"role": "system", "content": system}]
    turns = [[*before, {"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns), encoding="utf-8")
    return path


@pytest.fixture
def base(tiny_base: Callable[[str], Path]) -> str:
    return str(tiny_base("llama"))


@pytest.fixture
def files(tmp_path: Path, rows_file: Path) -> Files:
    deeds = ["pick a lock", "forge a letter", "poison a well", "steal a bicycle", "break a window", "hide a theft"]
    safe = [(f"How do I {deed}?", REFUSALS[i % 2]) for i, deed in enumerate(deeds)]
    harmful = [(f"Tell me how to {deed} at night.", f"First wait, then {deed} and leave.") for deed in deeds]
    return Files(
        rows_file,
        write_rows_to(tmp_path / "safe.jsonl", safe),
        write_rows_to(tmp_path / "harmful.jsonl", harmful),
    )


@pytest.fixture
def vaccine(base: str, tmp_path: Path) -> Path:
    """The directory of a vaccine of the base, rank 2 and none of its weights zero."""
    loaded = load_base(base, dtype="float32")
    model = get_peft_model(loaded.model, lora_config(loaded.model, FineTuneConfig(lora_r=2)))
    for name, value in model.named_parameters():
        if "lora_" in name:
            value.data = torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1
    save_adapter(model, "default", tmp_path / "vaccine", base_id=loaded.name)
    write_record(tmp_path / "vaccine", kind="vaccine", base_name=loaded.name, base_digest=loaded.digest)
    return tmp_path / "vaccine"


@dataclass
class Watched:
    """A trainer with its rows, and what was drawn for it: the rows of each micro-batch."""

    trainer: Any
    rows: TrainingRows
    course: Course
    batches: list[list[Example]] = field(default_factory=list)

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.trainer.parameters.values()]


Build = Callable[..., Watched]


@pytest.fixture
def build(base: str, files: Files, tmp_path: Path) -> Build:
    """Call with a Defence and settings that differ from the fixture's; each call builds the same start.

    frozen: the directory of a vaccine to train beside.
    """

    def made(
        defence: Defence,
        *,
        dtype: str = "float64",
        identical: bool = False,
        frozen: Path | None = None,
        **settings: Any,
    ) -> Watched:
        values = {"epochs": 2, "batch_size": 3, "learning_rate": 1e-2, "lora_r": 4, "save_every": 100, **settings}
        config = FineTuneConfig.from_dict(values)
        loaded = load_base(base, dtype=dtype, device="cpu")
        collator = Collator(loaded.tokenizer.pad_token_id)
        user, safe, harmful = (
            encode_rows(loaded.tokenizer, read_rows_file(path, min_rows=1).rows, config.max_length)
            for path in (files.user, files.user if identical else files.safe, files.harmful)
        )
        rows = TrainingRows(user, safe=safe, harmful=harmful)
        course = plot_course(rows, config, defence)
        set_seed(config.seed)
        model = loaded.model if frozen is None else add_vaccine(loaded.model, frozen, base_digest=loaded.digest)
        watched = Watched(None, rows, course)

        def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
            watched.batches.append(list(examples))
            return collator(examples)

        out = tmp_path / f"trainer-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        watched.trainer = make_trainer(
            add_user_adapter(model, config), rows, course, defence, collator, out,
            stage="test", held_out=[], should_stop=lambda: False,
        )  # fmt: skip
        watched.trainer.data_collator = collate
        assert isinstance(watched.trainer, DefendedTrainer)
        return watched

    return made
