"""Answers per second of batched scoring against one prompt at a time with the model's own `generate`.

    python bench/batched_scoring.py [--json] [--prompts 128] [--alone 16] [--tokens 48] [--threads 2]

The prompts are those that the gate asks; all are answered in batches by the code that scores, every so-manieth also
alone by transformers. Both are greedy in float32, and every answer given twice must be the same. Exit status 0 if they
are and batching gives at least 8 times the answers per second, else 1. Seconds are of the clock and of the processor:
on a machine that does other things at the same time go by the latter.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

AIM = 8.0


@dataclass(frozen=True)
class Timed:
    """Answers and what they took."""

    answers: list[str]
    seconds: float
    cpu_seconds: float


def timed(answer: Callable[[], list[str]]) -> Timed:
    wall, cpu = time.perf_counter(), time.process_time()
    answers = answer()
    return Timed(answers, time.perf_counter() - wall, time.process_time() - cpu)


def one_at_a_time(model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
    """What transformers' own greedy generation answers to each prompt by itself."""
    import torch

    from tvaccine_core.evaluation.generation import prompt_ids, stop_ids

    stops = sorted(stop_ids(model, tokenizer))
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt_ids(tokenizer, prompt)], device=model.device)
        written = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
        )
        answers.append(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return answers


def compare(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, alone: int, max_new_tokens: int, batch_size: int
) -> dict[str, Any]:
    """Answers per second both ways, their ratio, and how many of the answers given twice are the same."""
    from tvaccine_core.evaluation.generation import generate

    step = max(1, len(prompts) // alone)
    chosen = list(range(0, len(prompts), step))[:alone]
    generate(model, tokenizer, prompts[:2], max_new_tokens=2)  # what is done once is part of neither
    one_at_a_time(model, tokenizer, prompts[:1], 2)
    singles = timed(lambda: one_at_a_time(model, tokenizer, [prompts[i] for i in chosen], max_new_tokens))
    batched = timed(lambda: generate(model, tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size))
    same = sum(batched.answers[i] == answer for i, answer in zip(chosen, singles.answers, strict=True))
    return {
        "prompts": len(prompts),
        "answered_alone": len(chosen),
        "same_answers": same,
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "answers_per_second": {
            "batched": len(prompts) / batched.seconds,
            "alone": len(chosen) / singles.seconds,
        },
        "cpu_seconds_per_answer": {
            "batched": batched.cpu_seconds / len(prompts),
            "alone": singles.cpu_seconds / len(chosen),
        },
        "ratio": (len(prompts) / batched.seconds) / (len(chosen) / singles.seconds),
        "ratio_cpu": (len(prompts) / batched.cpu_seconds) / (len(chosen) / singles.cpu_seconds),
    }


def gate_prompts(count: int) -> list[str]:
    """The first prompts that ship with the gate."""
    from tvaccine_core.data.datasets import demo_file, read_prompts

    return [row.prompt for row in read_prompts(demo_file("gate_prompts"))][:count]


def main() -> int:
    from tvaccine_core.evaluation.generation import BATCH

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct", help="as for load_base")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--alone", type=int, default=16, help="how many of them are also answered alone")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of an answer at most")
    parser.add_argument("--batch", type=int, default=BATCH, help="rows of a batch at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    import torch

    from tvaccine_core.models.base import load_base

    torch.set_num_threads(arguments.threads)
    base = load_base(arguments.base, dtype="float32", device="cpu")
    result = compare(
        base.model,
        base.tokenizer,
        gate_prompts(arguments.prompts),
        alone=arguments.alone,
        max_new_tokens=arguments.tokens,
        batch_size=arguments.batch,
    )
    result = {"bench": "batched_scoring", "base": base.name, "threads": arguments.threads, "aim": AIM, **result}
    result["met"] = result["same_answers"] == result["answered_alone"] and result["ratio"] >= AIM
    for name, value in result.items():
        print(f"{name:24s} {value}")
    if arguments.json:
        print(json.dumps(result))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
