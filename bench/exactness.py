"""How far our step is from the plain two passes: the largest difference of any adapter gradient, in float64.

    python bench/exactness.py [--json] [--layers 8] [--as-transformers]

Four architectures with random weights, dropout 0, the same cross-entropy in both, for lowest drawn layers at the
bottom, in the middle and at the top, with what is frozen per attention module and per layer, and for our step with
frozen adapters folded into the weights. transformers computes norms and eager softmax in float32 even in a float64
model, which hides differences as well as it can blow them up; here they stay in float64, in both, unless
--as-transformers is given. Exit status 0 if every difference is below 1e-12, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

LIMIT = 1e-12
FAMILIES = ("llama", "qwen2", "gemma2", "opt")
SCOPES = ("attention", "layer")
RHO = 0.5
VOCABULARY = 320


@dataclass(frozen=True)
class Comparison:
    """One case. difference: largest absolute one over all entries of all adapter gradients. largest: gradient entry."""

    family: str
    place: str
    selected: tuple[int, ...]
    scope: str
    folded: bool
    tensors: int
    difference: float
    largest: float


def places(layers: int) -> dict[str, tuple[int, ...]]:
    """Drawn layers whose lowest one is at the bottom, in the middle, at the top."""
    middle = layers // 2
    return {"bottom": (0, middle, layers - 1), "middle": (middle, layers - 2), "top": (layers - 1,)}


def model_config(family: str, layers: int) -> Any:
    from transformers import Gemma2Config, LlamaConfig, OPTConfig, Qwen2Config

    common: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    grouped = {**common, "intermediate_size": 128, "num_key_value_heads": 2}
    if family == "llama":
        config: Any = LlamaConfig(**grouped)
    elif family == "qwen2":
        config = Qwen2Config(**grouped)
    elif family == "gemma2":
        config = Gemma2Config(**grouped, head_dim=16, query_pre_attn_scalar=16)
    else:
        config = OPTConfig(**common, ffn_dim=128, word_embed_proj_dim=64, dropout=0.0)
    config.initializer_range = config.init_std = 0.1  # so that no gradient is tiny
    return config


def adapted_model(family: str, layers: int) -> Any:
    """A random float64 model with LoRA of rank 4 on all linear maps of its layers, A and B both random."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from tvaccine_core.models.adapters import lora_targets

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(model_config(family, layers), dtype=torch.float64)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=lora_targets(base))).double()
    for name, parameter in model.named_parameters():
        if ".lora_" in name:  # B starts at zero, and A would have no gradient
            torch.nn.init.normal_(parameter, std=0.05)
    return model.train()


def rows() -> dict[str, Any]:
    """Three right-padded rows with answers of different lengths."""
    import torch

    ids = torch.randint(3, VOCABULARY, (3, 40), generator=torch.Generator().manual_seed(1))
    mask, labels = torch.ones_like(ids), ids.clone()
    for row in range(3):
        labels[row, : 5 + 6 * row] = -100
        labels[row, 40 - 4 * row :] = -100
        mask[row, 40 - 4 * row :] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def in_float64() -> Any:
    """A context in which nothing that is float64 is cast to float32 on the way."""
    import torch
    from torch.overrides import TorchFunctionMode

    class InFloat64(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            wide = bool(args) and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64
            if wide and kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
            if wide and (func is torch.Tensor.float or (func is torch.Tensor.to and torch.float32 in args[1:])):
                return args[0]
            return func(*args, **kwargs)

    return InFloat64()


def gradients(model: Any, scheme: Any, window: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    import torch

    model.zero_grad()
    scheme.open_window(window)
    scheme.step(inputs, torch.Tensor.backward)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def compare(family: str, layers: int) -> Iterator[Comparison]:
    """Every case of one architecture."""
    from tvaccine_core.alignment.efficient import EfficientScheme
    from tvaccine_core.alignment.freezing import find_adapters, open_window
    from tvaccine_core.alignment.two_pass import TwoPassScheme
    from tvaccine_core.models.layers import find_layers

    model, inputs = adapted_model(family, layers), rows()
    found = find_layers(model)
    adapters = find_adapters(model, found)
    for place, selected in places(layers).items():
        for scope in SCOPES:
            window = open_window(adapters, selected, method="t_vaccine", freeze_scope=scope, mlp_below=True)
            expected = gradients(model, TwoPassScheme(model, found, RHO), window, inputs)
            for folded in (False, True):
                scheme = EfficientScheme(model, found, RHO, fold_frozen=folded)
                ours = gradients(model, scheme, window, inputs)
                scheme.close()
                if ours.keys() != expected.keys():
                    raise AssertionError(f"{family}: other tensors have gradients than in the plain two passes")
                difference = max(float((ours[name] - expected[name]).abs().max()) for name in expected)
                largest = max(float(gradient.abs().max()) for gradient in expected.values())
                yield Comparison(family, place, selected, scope, folded, len(expected), difference, largest)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8, help="decoder layers of each model, at least 4")
    parser.add_argument("--as-transformers", action="store_true", help="leave norms and softmax in float32")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    if arguments.layers < 4:
        parser.error("--layers must be at least 4")
    print(f"{'family':8s} {'lowest':7s} {'drawn':12s} {'frozen per':10s} {'folded':6s} {'difference':>10s} of largest")
    compared: list[Comparison] = []
    for family in FAMILIES:
        with contextlib.nullcontext() if arguments.as_transformers else in_float64():
            found = list(compare(family, arguments.layers))
        for case in found:
            drawn = ",".join(map(str, case.selected))
            print(
                f"{case.family:8s} {case.place:7s} {drawn:12s} {case.scope:10s} {case.folded!s:6s} "
                f"{case.difference:10.1e} {case.largest:.1e}"
            )
        compared += found
    worst = max(case.difference for case in compared)
    print(f"largest difference {worst:.1e}, limit {LIMIT:.0e}")
    if arguments.json:
        cases = [asdict(case) for case in compared]
        result = {"bench": "exactness", "limit": LIMIT, "worst": worst, "as_transformers": arguments.as_transformers}
        print(json.dumps({**result, "cases": cases}))
    return 0 if worst < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
