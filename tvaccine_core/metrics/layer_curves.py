"""Gradient norms of the layers over an alignment run, and how often each layer was drawn.

Layer i's norm is G_i = ||d loss_h / d a_i||_F on harmful rows, with a_i the attention module's output (T-Vaccine, arXiv
2410.09760). A run notes at each probe the share p_i = G_i / sum_j G_j that it draws by, and at each draw the layers.
Where a run probed nothing (other methods), `gradient_norm_curve` measures G_i at its checkpoints afterwards.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from peft import PeftModel
from torch import Tensor

from tvaccine_core.alignment.two_pass import TwoPassScheme
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.metrics.run_states import in_order, kept_adapter
from tvaccine_core.models.adapter_files import load_adapter_weights
from tvaccine_core.models.layers import find_layers
from tvaccine_core.training.checkpoints import checkpoint_step
from tvaccine_core.training.metrics import METRICS_FILE, read_metrics

Unit = Literal["norm", "share"]
REPORT_FILE = "report.json"


@dataclass(frozen=True)
class LayerCurves:
    """values[k][i]: layer i at steps[k], a gradient norm, or where the run noted only that, its share of the sum.

    drawn[i]: in how many of `draws` draws layer i was. joint: (step, joint norm over the drawn layers), where noted.
    """

    steps: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    unit: Unit
    drawn: tuple[int, ...] = ()
    draws: int = 0
    joint: tuple[tuple[int, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "steps": list(self.steps),
            "values": [list(row) for row in self.values],
            "unit": self.unit,
            "drawn": list(self.drawn),
            "draws": self.draws,
            "joint": [list(point) for point in self.joint],
        }


def read_layer_curves(run: Path) -> LayerCurves:
    """The curves of an alignment run's directory: from report.json of a finished one, else from metrics.jsonl.

    Raises InvalidRequest when the run noted no probe.
    """
    lines = read_metrics(run / METRICS_FILE)
    report = run / REPORT_FILE
    noted = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else _from_metrics(lines)
    probes, draws = noted.get("probes") or [], noted.get("draws") or []
    if not probes:
        raise InvalidRequest(
            f"The run in {run.name} probed no layers; measure its checkpoints with gradient_norm_curve.", param="run"
        )
    unit: Unit = "norm" if all("norms" in probe for probe in probes) else "share"
    values = tuple(tuple(map(float, probe["norms" if unit == "norm" else "p"])) for probe in probes)
    counts = Counter(layer for draw in draws for layer in draw["selected"])
    joint = tuple((int(line["step"]), float(line["gradient_norm"])) for line in lines if _has_norm(line))
    drawn = tuple(counts[layer] for layer in range(len(values[0])))
    return LayerCurves(tuple(int(probe["step"]) for probe in probes), values, unit, drawn, len(draws), joint)


def layer_gradient_norms(model: Any, batch: Mapping[str, Tensor]) -> list[float]:
    """G_i of every layer on a batch {input_ids, attention_mask, labels}, each (B, T), in evaluation mode.

    No gradient is left anywhere.
    """
    training = model.training
    model.eval()
    try:
        there = {name: tensor.to(model.device) for name, tensor in batch.items()}
        return TwoPassScheme(model, find_layers(model), rho=0.0).probe(there, len(there["input_ids"]))
    finally:
        model.train(training)


def gradient_norm_curve(
    model: PeftModel, adapter: str, checkpoints: Sequence[Path], batch: Mapping[str, Tensor]
) -> LayerCurves:
    """G_i at each checkpoint of any run, whatever its method, on one fixed batch of harmful rows.

    adapter: the name of the run's adapter on the model; its weights are put back at the end. Raises InvalidRequest
    for a checkpoint that is incomplete or holds another adapter's tensors.
    """
    paths = in_order(checkpoints)
    values = []
    with kept_adapter(model, adapter):
        for path in paths:
            load_adapter_weights(model, adapter, path)
            values.append(tuple(layer_gradient_norms(model, batch)))
    return LayerCurves(tuple(map(checkpoint_step, paths)), tuple(values), "norm")


def _from_metrics(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """As a report has it. A line is of the step that it ends, what it notes came before that step: hence minus 1."""
    names = ("p", "norms")
    probes = [{"step": line["step"] - 1} | {n: line[n] for n in names if n in line} for line in lines if "p" in line]
    draws = [{"step": line["step"] - 1, "selected": line["selected"]} for line in lines if "selected" in line]
    return {"probes": probes, "draws": draws}


def _has_norm(line: Mapping[str, Any]) -> bool:
    value = line.get("gradient_norm")
    return isinstance(value, int | float) and math.isfinite(value)
