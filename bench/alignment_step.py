"""Seconds and peak memory of one alignment step on the embedded base, ours beside what others do.

    python bench/alignment_step.py [--json] [--steps 4] [--budget-gb 1.0]

Seven variants, each in a process of its own, take turns step by step on the same rows and the same drawn layers:
plain LoRA training as transformers does it, Vaccine (all layers, two passes), the published T-Vaccine scheme with
eager attention and with the fused kernel, our scheme, our scheme with frozen adapters folded into the weights, and our
scheme under a memory budget. A step is the forward and
backward passes, clipping and AdamW. Times are medians over steps, ratios are medians of the ratios of single steps;
memory is the peak resident set of the process. The last line with --json is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# What is compared most closely runs next to each other, so that other load on the machine meets both alike.
VARIANTS = ("plain_sft", "ours", "ours_folded", "published_eager", "ours_budget", "published_sdpa", "vaccine")
GAMMA = 8
RHO = 0.3
LENGTH = 128
ANSWER_SHARES = (0.25, 0.4, 0.6, 0.75)
SEED = 7
TOPICS = ("bridges", "violins", "glaciers", "orchards", "lighthouses", "bicycles", "spices", "kites")


def rows_of_text(tokenizer: Any, seed: int) -> dict[str, Any]:
    """Four rows of 128 tokens; the last 25 to 75 % of a row is the supervised answer."""
    import torch

    ids, labels = [], []
    for number, share in enumerate(ANSWER_SHARES):
        words = [
            f"Note {i} of part {number} tells how {TOPICS[(i * 3 + number + seed) % len(TOPICS)]} and "
            f"{TOPICS[(i + seed) % len(TOPICS)]} changed in year {1800 + 7 * i + seed}."
            for i in range(40)
        ]
        row = tokenizer(" ".join(words))["input_ids"][:LENGTH]
        ids.append(row)
        start = round(LENGTH * (1 - share))
        labels.append([-100] * start + row[start:])
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.ones(len(ids), LENGTH, dtype=torch.int64),
        "labels": torch.tensor(labels),
    }


class Step:
    """One variant: the model with fresh adapters, its optimizer and its way to compute gradients."""

    def __init__(self, variant: str, base: str, budget_gb: float, threads: int) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        from tvaccine_core.alignment.freezing import find_adapters
        from tvaccine_core.models.base import load_base
        from tvaccine_core.models.layers import find_layers

        torch.set_num_threads(threads)
        torch.manual_seed(SEED)
        loaded = load_base(base, dtype="float32", device="cpu")
        self.inputs = rows_of_text(loaded.tokenizer, 0)
        self.harmful = rows_of_text(loaded.tokenizer, 5)
        config = LoraConfig(r=8, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model = get_peft_model(loaded.model, config).train()
        self.layers = find_layers(self.model)
        self.adapters = find_adapters(self.model, self.layers)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.1)
        self.variant = variant
        self.scheme = self._scheme(budget_gb)

    def _scheme(self, budget_gb: float) -> Any:
        from tvaccine_core.alignment.efficient import EfficientScheme
        from tvaccine_core.alignment.published import PublishedScheme

        if self.variant == "plain_sft":
            return None
        if self.variant.startswith("ours"):
            budget = budget_gb * 1e9 if self.variant == "ours_budget" else None
            folded = self.variant == "ours_folded"
            return EfficientScheme(self.model, self.layers, RHO, budget, fold_frozen=folded)
        attention = "eager" if self.variant == "published_eager" else None
        return PublishedScheme(self.model, self.layers, RHO, attention)

    def draws(self, count: int) -> list[list[int]]:
        """Layer sets as the method draws them, after one probe."""
        from tvaccine_core.alignment.config import TVaccineConfig
        from tvaccine_core.alignment.selection import LayerSchedule

        schedule = LayerSchedule(TVaccineConfig(gamma=GAMMA, seed=SEED), len(self.layers))
        schedule.record_probe(self.scheme.probe(self.harmful, len(ANSWER_SHARES)))
        return [list(schedule.draw()) for _ in range(count)]

    def take(self, selected: list[int]) -> float:
        """One step with these drawn layers; its loss."""
        import torch

        from tvaccine_core.alignment.freezing import open_window

        method = "vaccine" if self.variant == "vaccine" else "t_vaccine"
        if self.scheme is None:
            loss = self.model(**self.inputs, use_cache=False).loss
            loss.backward()
        else:
            chosen = range(len(self.layers)) if method == "vaccine" else selected
            window = open_window(self.adapters, chosen, method=method, freeze_scope="attention", mlp_below=True)
            self.scheme.open_window(window)
            loss = self.scheme.step(self.inputs, torch.Tensor.backward).loss_perturbed
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.model.zero_grad()
        return float(loss.detach())


def serve(arguments: argparse.Namespace) -> None:
    """A variant's process: one JSON command a line on stdin, one JSON answer a line on stdout."""
    step = Step(arguments.variant, arguments.base, arguments.budget_gb, arguments.threads)
    forget_peak()  # loading the base is not part of a step
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "draws" in command:
            print(json.dumps(step.draws(command["draws"])), flush=True)
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step.take(command["selected"])
        answer = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "loss": loss}
        print(json.dumps({**answer, "peak_bytes": peak_bytes()}), flush=True)


def forget_peak() -> None:
    """Start the peak of the resident set anew, where the system can do so."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The process's peak resident set."""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Child:
    """A variant's process seen from the parent."""

    def __init__(self, variant: str, arguments: argparse.Namespace) -> None:
        # Idle threads that spin would slow whatever else runs on the same cores, the next variant included.
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(arguments.threads)}
        command = [sys.executable, __file__, "--variant", variant, "--base", arguments.base]
        command += ["--budget-gb", str(arguments.budget_gb), "--threads", str(arguments.threads)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self._read()

    def ask(self, command: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(("{", "[")):
                return json.loads(line)
        raise RuntimeError("a variant's process ended early")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all variants in turns and sum up."""
    children = {variant: Child(variant, arguments) for variant in VARIANTS}
    draws = children["ours"].ask({"draws": arguments.steps + 1})
    answers: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for selected in draws:
        for variant, child in children.items():
            answers[variant].append(child.ask({"selected": selected}))
            if not arguments.json:
                print(f"  {variant:16s} {answers[variant][-1]['seconds']:7.2f} s", flush=True)
    for child in children.values():
        child.close()
    timed = {variant: answer[1:] for variant, answer in answers.items()}  # the first step warms up
    return summary(timed, draws[1:], arguments)


def summary(
    answers: dict[str, list[dict[str, float]]], draws: list[list[int]], arguments: argparse.Namespace
) -> dict[str, Any]:
    variants = {
        variant: {
            "seconds": statistics.median(a["seconds"] for a in steps),
            "cpu_seconds": statistics.median(a["cpu_seconds"] for a in steps),
            "peak_gb": steps[-1]["peak_bytes"] / 1e9,
            "loss": steps[-1]["loss"],
        }
        for variant, steps in answers.items()
    }

    def ratio(one: str, other: str, what: str = "seconds") -> float:
        return statistics.median(a[what] / b[what] for a, b in zip(answers[one], answers[other], strict=True))

    ratios = {
        "ours_to_plain_sft": ratio("ours", "plain_sft"),
        "ours_folded_to_ours": ratio("ours_folded", "ours"),
        "ours_folded_to_ours_cpu": ratio("ours_folded", "ours", "cpu_seconds"),
        "ours_to_vaccine": ratio("ours", "vaccine"),
        "ours_to_published": ratio("ours", "published_eager"),
        "ours_to_published_sdpa": ratio("ours", "published_sdpa"),
        "ours_budget_to_published": ratio("ours_budget", "published_eager"),
        "ours_to_plain_sft_cpu": ratio("ours", "plain_sft", "cpu_seconds"),
        "ours_to_published_cpu": ratio("ours", "published_eager", "cpu_seconds"),
        "memory_ours_budget_to_published": variants["ours_budget"]["peak_gb"] / variants["published_eager"]["peak_gb"],
    }
    return {
        "bench": "alignment_step",
        "base": arguments.base,
        "rows": len(ANSWER_SHARES),
        "tokens": LENGTH,
        "gamma": GAMMA,
        "threads": arguments.threads,
        "steps": len(draws),
        "drawn_layers": draws,
        "budget_gb": arguments.budget_gb,
        "variants": variants,
        "ratios": ratios,
        "targets_met": {
            "ours at most 2.0 x plain SFT": ratios["ours_to_plain_sft"] <= 2.0,
            "ours at most 0.70 x published": ratios["ours_to_published"] <= 0.70,
            "with budget: no more memory than published": ratios["memory_ours_budget_to_published"] <= 1.0,
            "with budget: no more time than published": ratios["ours_budget_to_published"] <= 1.0,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each variant, a draw each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget-gb", type=float, default=1.0, help="memory budget of ours_budget")
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        serve(arguments)
        return
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    for variant, values in result["variants"].items():
        seconds, cpu, peak = values["seconds"], values["cpu_seconds"], values["peak_gb"]
        print(f"{variant:16s} {seconds:7.2f} s  {cpu:7.2f} cpu s  {peak:6.2f} GB")
    for name, value in (result["ratios"] | result["targets_met"]).items():
        print(f"{name:48s} {value if isinstance(value, bool) else round(value, 3)}")


if __name__ == "__main__":
    main()
