"""Benign fine-tuning starts where the aligned model is: at step 0 nothing has moved."""

from collections.abc import Callable
from pathlib import Path

import torch

from tvaccine_core.alignment.methods import alignment_config
from tvaccine_core.alignment.run import align
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.metrics.answering import greedy
from tvaccine_core.models.adapters import add_user_adapter, add_vaccine
from tvaccine_core.models.base import load_base

PROMPTS = ["What is one?", "How do I bake bread?", "two three"]


def test_before_the_first_step_the_model_answers_as_the_aligned_one(
    tiny_base: Callable[[str], Path], rows_file: Path, tmp_path: Path
) -> None:
    base = str(tiny_base("llama"))
    settings = alignment_config({"method": "sft", "steps": 8, "batch_size": 2, "learning_rate": 0.05})
    align(base, rows_file, None, tmp_path / "vaccine", settings, dtype="float32", device="cpu")
    loaded = load_base(base, dtype="float32", device="cpu")
    stock = greedy(loaded.model, loaded.tokenizer)(PROMPTS, 8)
    aligned = add_vaccine(loaded.model, tmp_path / "vaccine")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before, said = aligned(ids).logits, greedy(aligned, loaded.tokenizer)(PROMPTS, 8)
        tuned = add_user_adapter(aligned, FineTuneConfig(lora_r=4))
        after = tuned(ids).logits
    assert said != stock
    assert torch.equal(before, after)
    assert greedy(tuned, loaded.tokenizer)(PROMPTS, 8) == said
