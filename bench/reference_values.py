"""Recomputes a file of reference values of T-Vaccine and says how far ours are from them.

    python bench/reference_values.py FILE [--base smollm2-135m-instruct] [--scheme efficient] [--json]

FILE holds, as JSON, token ids and labels of an alignment batch (`input_ids`, `labels`, `attention_mask`) and of a
harmful batch (`harmful_input_ids`, `harmful_labels`, optionally `harmful_attention_mask`), the `selected_layers` and
`rho`, and the values to reproduce: losses of both batches, the gradient norm at every layer's attention output on the
harmful batch and the sampling probabilities they give, gradient and perturbation norms at the selected layers, and
the loss under the perturbation. The model runs in float32 with a fresh LoRA of rank 8 (B = 0).
Exit status 0 if every value is within a relative 1e-3, else 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

LIMIT = 1e-3
SCHEMES = ("efficient", "two_pass")


def batches(reference: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The alignment and the harmful batch as tensors; without a mask every position counts."""
    import torch

    def batch(prefix: str) -> dict[str, Any]:
        ids = torch.tensor(reference[f"{prefix}input_ids"])
        mask = reference.get(f"{prefix}attention_mask")
        return {
            "input_ids": ids,
            "labels": torch.tensor(reference[f"{prefix}labels"]),
            "attention_mask": torch.ones_like(ids) if mask is None else torch.tensor(mask),
        }

    return batch(""), batch("harmful_")


def no_backward(loss: Any) -> None:
    """Only values are wanted, no gradients of adapters."""
    del loss


def compute(reference: dict[str, Any], base: str, scheme_name: str) -> dict[str, Any]:
    """Every quantity of the file, by the code that trains vaccines."""
    import torch
    from peft import LoraConfig, get_peft_model

    from tvaccine_core.alignment.config import TVaccineConfig
    from tvaccine_core.alignment.freezing import find_adapters, open_window
    from tvaccine_core.alignment.selection import probabilities
    from tvaccine_core.alignment.trainer import make_scheme
    from tvaccine_core.models.adapters import lora_targets
    from tvaccine_core.models.base import load_base
    from tvaccine_core.models.layers import find_layers

    loaded = load_base(base, dtype="float32", device="cpu")
    torch.manual_seed(0)
    lora = LoraConfig(r=8, target_modules=lora_targets(loaded.model), task_type="CAUSAL_LM")
    model = get_peft_model(loaded.model, lora).train()
    layers = find_layers(model)
    config = TVaccineConfig(rho=reference["rho"], gamma=len(reference["selected_layers"]), scheme=scheme_name)
    scheme = make_scheme(model, layers, config)
    alignment, harmful = batches(reference)
    norms = scheme.probe(harmful, len(harmful["input_ids"]))
    harmful_loss = scheme.step(harmful, no_backward).loss
    window = open_window(
        find_adapters(model, layers),
        reference["selected_layers"],
        method="t_vaccine",
        freeze_scope="layer",
        mlp_below=True,
    )
    scheme.open_window(window)
    report = scheme.step(alignment, no_backward)
    scheme.close()
    return {
        "harmful_loss": float(harmful_loss),
        "harmful_grad_norm_per_layer": norms,
        "sampling_probability": probabilities(norms),
        "loss_unperturbed": float(report.loss),
        "grad_norm_selected": report.gradients.tolist(),
        "perturbation_norm_selected": report.shifts.tolist(),
        "joint_perturbation_norm": report.values()["eps_norm_effective"],
        "loss_perturbed": float(report.loss_perturbed),
    }


def deviation(ours: Any, theirs: Any) -> float:
    """The largest relative deviation, over all entries of a list."""
    ours_list, theirs_list = ([value] if isinstance(value, float) else value for value in (ours, theirs))
    if len(ours_list) != len(theirs_list):
        return float("inf")
    return max(abs(a - b) / max(abs(b), 1e-30) for a, b in zip(ours_list, theirs_list, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--base", default="smollm2-135m-instruct", help="as for load_base")
    parser.add_argument("--scheme", choices=SCHEMES, help="default: each of them")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    reference = json.loads(arguments.file.read_text(encoding="utf-8"))
    schemes = (arguments.scheme,) if arguments.scheme else SCHEMES
    deviations: dict[str, dict[str, float]] = {}
    for scheme in schemes:
        values = compute(reference, arguments.base, scheme)
        deviations[scheme] = {name: deviation(value, reference[name]) for name, value in values.items()}
    passed = all(value <= LIMIT for by_name in deviations.values() for value in by_name.values())
    if arguments.json:
        print(json.dumps({"bench": "reference_values", "deviations": deviations, "limit": LIMIT, "passed": passed}))
        return 0 if passed else 1
    for scheme, by_name in deviations.items():
        for name, value in by_name.items():
            print(f"{scheme:10s} {name:30s} {value:.2e}")
    print("every value is within the limit" if passed else f"some values are off by more than {LIMIT}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
