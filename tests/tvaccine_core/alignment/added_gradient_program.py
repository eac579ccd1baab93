"""Two short runs, Booster and then TAR, in this process or as one rank of several.

`python added_gradient_program.py BASE OUT ACCUMULATION`. Leaves in OUT, for each method and rank,
METHOD-RANK.safetensors and metrics-METHOD-RANK.jsonl.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {"steps": 3, "batch_size": 2, "save_every": 100, "seed": 3, "learning_rate": 1e-2}


def examples(tokenizer: Any, prefix: str, count: int) -> list[Any]:
    """Rows of different lengths with answers of different lengths."""
    from tvaccine_core.data.tokenise import Example

    made = []
    for row in range(count):
        ids = tokenizer(f"{prefix} {row}: " + "bread and water " * (1 + row % 4))["input_ids"]
        start = len(ids) // 2 - row % 3
        made.append(Example(ids, [-100] * start + ids[start:]))
    return made


def train(config: Any, base_dir: Path, out: Path, rank: int, world: int) -> None:
    """One run of the method that `config` belongs to."""
    from peft import get_peft_model
    from safetensors.torch import save_file
    from transformers import set_seed

    from tvaccine_core.alignment.booster_trainer import BoosterTrainer
    from tvaccine_core.alignment.harmful import HarmfulBatches
    from tvaccine_core.alignment.metrics import AlignmentMetrics
    from tvaccine_core.alignment.run import training_plan
    from tvaccine_core.alignment.tar_trainer import TarTrainer
    from tvaccine_core.data.tokenise import Collator
    from tvaccine_core.models.adapters import VACCINE, lora_config, train_only
    from tvaccine_core.models.base import load_base
    from tvaccine_core.training.arguments import training_arguments
    from tvaccine_core.training.order import ShuffledPasses

    base = load_base(str(base_dir), dtype="float64", device="cpu")
    plan = training_plan(config)
    collate = Collator(base.tokenizer.pad_token_id)
    streams = {"harmful": HarmfulBatches(examples(base.tokenizer, "harm", 9), collate, config.harmful_batch_size, 9)}
    if config.method == "tar":
        streams["heldout"] = HarmfulBatches(examples(base.tokenizer, "worse", 5), collate, config.heldout_batch_size, 8)
    set_seed(config.seed)
    model = get_peft_model(base.model, lora_config(base.model, config), adapter_name=VACCINE).double()
    train_only(model, VACCINE)
    trainer = (TarTrainer if config.method == "tar" else BoosterTrainer)(
        config=config,
        **streams,
        model=model,
        adapter_name=VACCINE,
        args=training_arguments(plan, out / f"checkpoints-{config.method}-{rank}", use_cpu=True),
        metrics=AlignmentMetrics(out / f"metrics-{config.method}-{rank}.jsonl", stage="vaccinating", total=plan.steps),
        train_dataset=ShuffledPasses(examples(base.tokenizer, "row", 24), plan.draws * world, config.seed),
        data_collator=collate,
    )
    trainer.run()
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if ".lora_" in n}
    save_file(weights, out / f"{config.method}-{rank}.safetensors")


def both(base_dir: Path, out: Path, accumulation: int, rank: int = 0, world: int = 1) -> None:
    """Booster, then TAR."""
    from tvaccine_core.alignment.booster_config import BoosterConfig
    from tvaccine_core.alignment.tar_config import TarConfig

    shared = {**SETTINGS, "gradient_accumulation_steps": accumulation}
    train(BoosterConfig(**shared), base_dir, out, rank, world)
    train(TarConfig(**shared, inner_steps=2, measure_every=1, entropy_bound=1.0), base_dir, out, rank, world)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    place = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    both(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *place)
