"""Peak GPU memory and time of one alignment step on models of 7 and 13 billion parameters with random weights.

    python bench/gpu_memory.py [--json] [--shapes llama-2-7b,llama-2-13b,qwen2-7b] [--variants ...] [--steps 8]

Nothing is downloaded: memory and time do not depend on what the weights are. A step is the forward and backward passes,
clipping and AdamW on a LoRA of rank 8 on all linear maps, for 10 rows of 200 tokens of which the last half is
supervised, in bfloat16. Every variant runs in a process of its own, so that a peak is its own; layers are drawn anew
for every step. Peaks are torch's allocated and reserved bytes from the first step on; times are medians. A variant that
runs out of memory is reported as such. Needs a CUDA GPU, and bitsandbytes for the variants in 4 bits.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

RHO = 3.0
GAMMA = 8
ROWS, TOKENS = 10, 200
SEED = 7

LLAMA = {"vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-2-7b": (
        "llama",
        {
            **LLAMA,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
        },
    ),
    "llama-2-13b": (
        "llama",
        {
            **LLAMA,
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
            "num_key_value_heads": 40,
        },
    ),
    "qwen2-7b": (
        "qwen2",
        {
            "vocab_size": 152064,
            "max_position_embeddings": 32768,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
    ),
}
"""Family and dimensions of the published models."""


@dataclass(frozen=True)
class Variant:
    """How a step is computed. scheme: "plain" is transformers' own loss and backward. budget_gb: for "efficient"."""

    method: str
    scheme: str
    four_bit: bool = False
    budget_gb: float | None = None


VARIANTS = {
    "sft": Variant("sft", "plain"),
    "vaccine": Variant("vaccine", "published"),
    "t_vaccine_published": Variant("t_vaccine", "published"),
    "ours": Variant("t_vaccine", "efficient"),
    "ours_22gb": Variant("t_vaccine", "efficient", budget_gb=22.0),
    "ours_4bit": Variant("t_vaccine", "efficient", four_bit=True),
    "ours_4bit_11gb": Variant("t_vaccine", "efficient", four_bit=True, budget_gb=11.0),
    "ours_4bit_22gb": Variant("t_vaccine", "efficient", four_bit=True, budget_gb=22.0),
}

AIMS = (
    ("llama-2-7b", ("ours", "ours_22gb"), 24.0),
    ("llama-2-7b", ("ours_4bit", "ours_4bit_11gb"), 12.0),
    ("llama-2-13b", ("ours_4bit", "ours_4bit_22gb"), 24.0),
)
"""The best of these variants should reserve less than so many gigabytes (10^9 bytes)."""


def model_config(shape: tuple[str, dict[str, Any]]) -> Any:
    from transformers import LlamaConfig, Qwen2Config

    family, dimensions = shape
    return (LlamaConfig if family == "llama" else Qwen2Config)(**dimensions, tie_word_embeddings=False)


def random_model(config: Any, device: str, dtype: Any, *, four_bit: bool) -> Any:
    """A frozen model with random weights, made on the device layer by layer: it never takes more memory than it has."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    short = copy.deepcopy(config)
    short.num_hidden_layers = 1
    if getattr(short, "layer_types", None):
        short.layer_types = short.layer_types[:1]
    buffers = dict(AutoModelForCausalLM.from_config(short, dtype=dtype).named_buffers())
    torch.manual_seed(SEED)
    inside = {id(module) for module in model.model.layers.modules()}
    for path, module in list(model.named_modules()):
        for name, held in list(module.named_parameters(recurse=False)):
            norm = held.dim() == 1 and name == "weight"
            weight = torch.empty(held.shape, device=device, dtype=dtype).normal_(1.0 if norm else 0.0, 0.02)
            module._parameters[name] = torch.nn.Parameter(weight, requires_grad=False)
        for name, _ in list(module.named_buffers(recurse=False)):
            module._buffers[name] = buffers[f"{path}.{name}"].to(device)
        if four_bit and id(module) in inside and isinstance(module, torch.nn.Linear):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, in_four_bits(module, device, dtype))
    return model.requires_grad_(False)


def in_four_bits(linear: Any, device: str, dtype: Any) -> Any:
    """The map with its weight as `load_base(quantization="4bit")` keeps it."""
    import bitsandbytes as bnb

    made = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    kept = {"requires_grad": False, "quant_type": "nf4", "compress_statistics": True}
    made.weight = bnb.nn.Params4bit(linear.weight.data, **kept).to(device)
    made.bias = linear.bias
    return made


def random_rows(vocabulary: int, rows: int, tokens: int, device: str) -> dict[str, Any]:
    """Rows without padding; the last half of each is supervised."""
    import torch

    ids = torch.randint(3, vocabulary, (rows, tokens), generator=torch.Generator().manual_seed(SEED)).to(device)
    labels = ids.clone()
    labels[:, : tokens // 2] = -100
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


class Steps:
    """One variant, ready to take steps."""

    def __init__(self, variant: Variant, model: Any, inputs: dict[str, Any], gamma: int) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        from tvaccine_core.alignment.config import TVaccineConfig
        from tvaccine_core.alignment.freezing import find_adapters
        from tvaccine_core.alignment.selection import LayerSchedule
        from tvaccine_core.alignment.trainer import make_scheme
        from tvaccine_core.models.adapters import lora_targets
        from tvaccine_core.models.layers import find_layers

        lora = LoraConfig(r=8, lora_alpha=8, target_modules=lora_targets(model), task_type="CAUSAL_LM")
        self.model = get_peft_model(model, lora).train()
        self.variant, self.inputs = variant, inputs
        layers = find_layers(self.model)
        self.adapters = find_adapters(self.model, layers)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.1)
        scheme = "efficient" if variant.scheme == "plain" else variant.scheme
        config = TVaccineConfig(
            method=variant.method, rho=RHO, gamma=gamma, seed=SEED, scheme=scheme, memory_budget_gb=variant.budget_gb
        )
        self.schedule = LayerSchedule(config, len(layers))
        self.scheme = None if variant.scheme == "plain" else make_scheme(self.model, layers, config)

    def probe(self) -> None:
        """Measure the layers' gradient norms as a run does before its first step."""
        if self.scheme is not None and self.variant.method == "t_vaccine":
            self.schedule.record_probe(self.scheme.probe(self.inputs, len(self.inputs["input_ids"])))

    def take(self) -> float:
        """One step with layers drawn anew; the loss that was trained on."""
        import torch

        from tvaccine_core.alignment.freezing import open_window

        if self.scheme is None:
            loss = self.model(**self.inputs, use_cache=False).loss
            loss.backward()
        else:
            drawn = self.schedule.draw()
            method = self.variant.method
            window = open_window(self.adapters, drawn, method=method, freeze_scope="attention", mlp_below=True)
            self.scheme.open_window(window)
            loss = self.scheme.step(self.inputs, torch.Tensor.backward).loss_perturbed
        torch.nn.utils.clip_grad_norm_([p for p in self.parameters if p.grad is not None], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


def measure(
    variant: Variant,
    config: Any,
    *,
    device: str,
    steps: int,
    rows: int = ROWS,
    tokens: int = TOKENS,
    gamma: int = GAMMA,
) -> dict[str, Any]:
    """Seconds of each step after the first, the last loss, and on a GPU the peaks in bytes."""
    import torch

    model = random_model(config, device, torch.bfloat16, four_bit=variant.four_bit)
    taken = Steps(variant, model, random_rows(config.vocab_size, rows, tokens, device), gamma)
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    taken.probe()
    seconds = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        loss = taken.take()  # reads the loss, and so waits for the device
        seconds.append(time.perf_counter() - started)
    peaks = {}
    if on_gpu:
        peaks = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    return {"seconds": seconds[1:], "loss": loss, **peaks}


def refuse_without_gpu(variants: list[str]) -> None:
    """Exits with a message where the bench cannot run."""
    import importlib.util

    import torch

    if not torch.cuda.is_available():
        sys.exit("gpu_memory: this bench needs a CUDA GPU and there is none here.")
    if any(VARIANTS[name].four_bit for name in variants) and importlib.util.find_spec("bitsandbytes") is None:
        sys.exit("gpu_memory: the variants in 4 bits need bitsandbytes: pip install 'tvaccine[qlora]'.")


def run_variant(shape: str, variant: str, steps: int) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--child", "--shapes", shape, "--variants", variant, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if lines:
        return dict(json.loads(lines[-1]))
    return {"error": (done.stderr.strip().splitlines() or ["ended without a word"])[-1]}


def child(shape: str, variant: str, steps: int) -> None:
    """What the process of one variant prints: its measures, or that memory was short."""
    import torch

    try:
        measured = measure(VARIANTS[variant], model_config(SHAPES[shape]), device="cuda", steps=steps)
    except torch.OutOfMemoryError:
        measured = {"error": "out of memory"}
    print(json.dumps(measured))


def summary(results: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians and peaks by shape and variant, and whether the aims are met (None where not measured)."""
    shapes = {
        shape: {
            variant: found
            if "error" in found
            else {
                "seconds": statistics.median(found["seconds"]),
                "allocated_gb": found["allocated"] / 1e9,
                "reserved_gb": found["reserved"] / 1e9,
                "loss": found["loss"],
            }
            for variant, found in by_variant.items()
        }
        for shape, by_variant in results.items()
    }
    aims = {}
    for shape, names, limit in AIMS:
        sizes = [shapes[shape][n]["reserved_gb"] for n in names if "reserved_gb" in shapes.get(shape, {}).get(n, {})]
        aims[f"{shape}: {' or '.join(names)} under {limit:g} GB"] = min(sizes) < limit if sizes else None
    return {"shapes": shapes, "aims": aims}


def table(shapes: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The measures as text, times also as a multiple of plain fine-tuning's."""
    lines = [f"{'shape':12s} {'variant':20s} {'allocated':>10s} {'reserved':>10s} {'seconds':>8s} {'of sft':>7s}"]
    for shape, by_variant in shapes.items():
        base = by_variant.get("sft", {}).get("seconds")
        for variant, found in by_variant.items():
            if "error" in found:
                lines.append(f"{shape:12s} {variant:20s} {found['error']}")
                continue
            share = f"{found['seconds'] / base:7.2f}" if base else f"{'':7s}"
            lines.append(
                f"{shape:12s} {variant:20s} {found['allocated_gb']:7.2f} GB {found['reserved_gb']:7.2f} GB "
                f"{found['seconds']:8.3f} {share}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each variant")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shapes, variants = arguments.shapes.split(","), arguments.variants.split(",")
    for name, known in [*((s, SHAPES) for s in shapes), *((v, VARIANTS) for v in variants)]:
        if name not in known:
            parser.error(f"{name} is none of {', '.join(known)}")
    refuse_without_gpu(variants)
    if arguments.child:
        child(shapes[0], variants[0], arguments.steps)
        return
    import torch

    results: dict[str, dict[str, dict[str, Any]]] = {}
    for shape in shapes:
        for variant in variants:
            results.setdefault(shape, {})[variant] = run_variant(shape, variant, arguments.steps)
            print(f"  {shape} {variant} done", file=sys.stderr, flush=True)
    found = summary(results)
    print(table(found["shapes"]))
    for aim, met in found["aims"].items():
        print(f"{aim:60s} {'not measured' if met is None else met}")
    if arguments.json:
        settings = {"rows": ROWS, "tokens": TOKENS, "gamma": GAMMA, "steps": arguments.steps}
        kinds = {name: asdict(VARIANTS[name]) for name in variants}
        device = torch.cuda.get_device_name()
        print(json.dumps({"bench": "gpu_memory", "device": device, **settings, "variants": kinds, **found}))


if __name__ == "__main__":
    main()
