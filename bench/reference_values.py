"""Compare our T-Vaccine with numbers of the published implementation: `python bench/reference_values.py FILE [--json]`.

FILE holds one alignment batch and one harmful batch as token ids with labels, the drawn layers, rho, and the quantities
computed from them in float32 with a freshly initialised LoRA (B = 0). For each quantity the largest relative deviation
is printed; exit status 0 when all are under 1e-3. The probe and the step are those of the efficient scheme; the norms
of single layers come from the plain two-pass scheme.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from tvaccine_core.alignment.efficient import EfficientScheme
from tvaccine_core.alignment.freezing import find_adapters, open_window
from tvaccine_core.alignment.perturbation import frobenius_norm, joint_norm, scale_to_perturbation
from tvaccine_core.alignment.selection import probabilities
from tvaccine_core.alignment.two_pass import TwoPassScheme
from tvaccine_core.models.adapters import lora_targets
from tvaccine_core.models.base import load_base
from tvaccine_core.models.layers import find_layers

TOLERANCE = 1e-3


def batch(reference: dict[str, Any], prefix: str = "") -> dict[str, torch.Tensor]:
    ids = torch.tensor(reference[f"{prefix}input_ids"])
    mask = reference.get(f"{prefix}attention_mask")
    return {
        "input_ids": ids,
        "labels": torch.tensor(reference[f"{prefix}labels"]),
        "attention_mask": torch.ones_like(ids) if mask is None else torch.tensor(mask),
    }


def compute(reference: dict[str, Any], base: str) -> dict[str, list[float]]:
    loaded = load_base(base, dtype="float32", device="cpu")
    config = LoraConfig(r=8, lora_alpha=8, target_modules=lora_targets(loaded.model), task_type="CAUSAL_LM")
    model = get_peft_model(loaded.model, config)
    layers, rho, selected = find_layers(model), reference["rho"], tuple(reference["selected_layers"])
    adapters = find_adapters(model, layers)
    alignment, harmful = batch(reference), batch(reference, "harmful_")
    plain = TwoPassScheme(model, layers, rho)
    harmful_loss, _ = plain._gradients(harmful, range(len(layers)))
    _, gradients = plain._gradients(alignment, selected)
    norms = [float(frobenius_norm(g)) for g in gradients]
    scale_to_perturbation(gradients, rho, joint_norm(gradients))
    perturbation = [float(frobenius_norm(g)) for g in gradients]
    scheme = EfficientScheme(model, layers, rho)
    probed = scheme.probe(harmful, len(harmful["input_ids"]))
    window = open_window(adapters, selected, method="t_vaccine", freeze_scope="attention", mlp_below=True)
    scheme.open_window(window)
    step = scheme.step(alignment, lambda loss: loss.backward()).values()
    scheme.close()
    return {
        "harmful_loss": [float(harmful_loss)],
        "harmful_grad_norm_per_layer": probed,
        "sampling_probability": probabilities(probed),
        "loss_unperturbed": [step["loss"]],
        "grad_norm_selected": norms,
        "perturbation_norm_selected": perturbation,
        "joint_perturbation_norm": [step["eps_norm"]],
        "loss_perturbed": [step["loss_perturbed"]],
    }


def deviation(ours: Sequence[float], theirs: float | Sequence[float]) -> float:
    wanted = [theirs] if isinstance(theirs, float) else list(theirs)
    if len(wanted) != len(ours):
        return float("inf")
    return max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(ours, wanted, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--json", action="store_true", help="one JSON line last on standard output")
    options = parser.parse_args()
    reference = json.loads(options.file.read_text("utf-8"))
    values = compute(reference, options.base)
    deviations = {name: deviation(ours, reference[name]) for name, ours in values.items() if name in reference}
    for name, value in deviations.items():
        print(f"{name:30s} {value:.2e}", file=sys.stderr if options.json else sys.stdout)
    passed = bool(deviations) and max(deviations.values()) < TOLERANCE
    if options.json:
        print(json.dumps({"deviations": deviations, "tolerance": TOLERANCE, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
