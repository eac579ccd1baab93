"""A short RepNoise run, in this process or as one rank of several: `python repnoise_program.py BASE OUT ACCUMULATION`.

Leaves in OUT, for each rank, weights-RANK.safetensors and metrics-RANK.jsonl.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

STEPS = 3


def train(base_dir: Path, out: Path, accumulation: int, rank: int = 0, world: int = 1) -> None:
    """One run of STEPS steps."""
    from peft import get_peft_model
    from safetensors.torch import save_file
    from transformers import set_seed

    from tvaccine_core.alignment.methods import AlignmentRows
    from tvaccine_core.alignment.metrics import AlignmentMetrics
    from tvaccine_core.alignment.readings import Reader
    from tvaccine_core.alignment.repnoise_config import RepNoiseConfig
    from tvaccine_core.alignment.repnoise_trainer import RepNoiseTrainer
    from tvaccine_core.alignment.run import training_plan
    from tvaccine_core.data.rows import Message, Row
    from tvaccine_core.models.adapters import VACCINE, lora_config, train_only
    from tvaccine_core.models.base import load_base
    from tvaccine_core.training.arguments import training_arguments

    def rows(questions: range, answer: str) -> tuple[Row, ...]:
        asked = [f"question {n}" + " and then" * (n % 3) for n in questions]
        return tuple(
            Row(n, (Message("user", text), Message("assistant", answer))) for n, text in enumerate(asked, start=1)
        )

    config = RepNoiseConfig(
        steps=STEPS,
        batch_size=2,
        gradient_accumulation_steps=accumulation,
        learning_rate=1e-2,
        alpha=0.5,
        beta=0.5,
        save_every=100,
        seed=3,
    )
    base = load_base(str(base_dir), dtype="float64", device="cpu")
    plan = training_plan(config)
    found = AlignmentRows(rows(range(12), "I'm sorry, I can't."), rows(range(4, 16), "Mix flour, water and yeast."))
    readings = Reader(base.tokenizer, found, plan.draws * world).repnoise(config)
    set_seed(config.seed)
    model = get_peft_model(base.model, lora_config(base.model, config), adapter_name=VACCINE).double()
    train_only(model, VACCINE)
    trainer = RepNoiseTrainer(
        config=config,
        model=model,
        adapter_name=VACCINE,
        args=training_arguments(plan, out / f"checkpoints-{rank}", use_cpu=True),
        metrics=AlignmentMetrics(out / f"metrics-{rank}.jsonl", stage="vaccinating", total=plan.steps),
        train_dataset=readings.rows,
        data_collator=readings.collate,
    )
    trainer.run()
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if ".lora_" in n}
    save_file(weights, out / f"weights-{rank}.safetensors")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    place = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    train(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *place)
