"""A small alignment run, in this process or as one rank of several: `python ranks_program.py BASE OUT SETTINGS`.

SETTINGS is JSON: fields of TVaccineConfig. Leaves in OUT, for each rank, weights-RANK.safetensors and run-RANK.json
(probes, draws, first_layer_calls).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

ROWS = 24


def examples(tokenizer: Any, prefix: str) -> list[Any]:
    """Rows of different lengths with answers of different lengths."""
    from tvaccine_core.data.tokenise import Example

    words = ["bread", "flour", "water", "salt", "yeast", "then", "wait", "an", "hour", "or", "two", "longer"]
    made = []
    for row in range(ROWS):
        text = f"{prefix} {row}: " + " ".join(words[(row + k) % 12] for k in range(3 + row % 7))
        ids = tokenizer(text)["input_ids"]
        start = len(ids) // 2 - row % 3
        made.append(Example(ids, [-100] * start + ids[start:]))
    return made


def train(base_dir: Path, out: Path, settings: dict[str, Any], rank: int = 0, world: int = 1) -> None:
    """One run; every rank leaves its files."""
    from peft import get_peft_model
    from transformers import set_seed

    from tvaccine_core.alignment.config import TVaccineConfig
    from tvaccine_core.alignment.harmful import HarmfulBatches
    from tvaccine_core.alignment.metrics import AlignmentMetrics
    from tvaccine_core.alignment.run import training_plan
    from tvaccine_core.alignment.trainer import TVaccineTrainer
    from tvaccine_core.data.tokenise import Collator
    from tvaccine_core.models.adapters import VACCINE, lora_config, train_only
    from tvaccine_core.models.base import load_base
    from tvaccine_core.training.arguments import training_arguments
    from tvaccine_core.training.order import ShuffledPasses

    config = TVaccineConfig.from_dict(settings)
    base = load_base(str(base_dir), dtype="float64", device="cpu")
    plan = training_plan(config)
    collate = Collator(base.tokenizer.pad_token_id)
    harmful = HarmfulBatches(examples(base.tokenizer, "harm"), collate, config.probe_batch, 9)
    set_seed(config.seed)
    model = get_peft_model(base.model, lora_config(base.model, config), adapter_name=VACCINE).double()
    train_only(model, VACCINE)
    trainer = TVaccineTrainer(
        config=config,
        harmful=harmful if config.needs_harmful_rows else None,
        model=model,
        adapter_name=VACCINE,
        args=training_arguments(plan, out / f"checkpoints-{rank}", use_cpu=True),
        metrics=AlignmentMetrics(out / f"metrics-{rank}.jsonl", stage="vaccinating", total=plan.steps),
        train_dataset=ShuffledPasses(examples(base.tokenizer, "row"), plan.draws * world, config.seed),
        data_collator=collate,
    )
    calls = count_layer_calls(model, len(trainer.schedule.selected or range(trainer.schedule.layers)))
    trainer.run()
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if ".lora_" in n}
    save_file(weights, out / f"weights-{rank}.safetensors")
    written = {**trainer.history, "first_layer_calls": calls[0]}
    (out / f"run-{rank}.json").write_text(json.dumps(written), encoding="utf-8")


def count_layer_calls(model: nn.Module, layers: int) -> list[int]:
    """Counts, from now on, how often each layer's first norm runs."""
    from tvaccine_core.models.layers import find_layers

    counts = [0] * layers
    for index, layer in enumerate(find_layers(model).layers):

        def count(module: nn.Module, args: Any, index: int = index) -> None:
            counts[index] += 1

        layer.input_layernorm.register_forward_pre_hook(count)
    return counts


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    here, there = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    train(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), here, there)
