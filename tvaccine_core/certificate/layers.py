"""What an alignment run told of its layers: gradient norms at its probes, and how often each layer was drawn."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

REPORT_FILE = "report.json"


def layers_table(vaccine_dir: Path) -> dict[str, Any] | None:
    """{unit, probes, draws, layers: [{layer, first, last, mean, drawn}]}; None for a method that draws no layers.

    unit: "norm", or "share": of the sum of all layers' norms, which is what the run draws by (T-Vaccine, arXiv
    2410.09760). first, last, mean: over the probes, None without any. drawn: in how many of the draws the layer was.
    """
    path = vaccine_dir / REPORT_FILE
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    draws = [one["selected"] for one in told.get("draws") or []]
    probes = told.get("probes") or []
    unit = "norm" if probes and all("norms" in one for one in probes) else "share"
    values = [one["norms" if unit == "norm" else "p"] for one in probes]
    counts = Counter(layer for selected in draws for layer in selected)
    if not values and not counts:
        return None
    number = len(values[0]) if values else max(counts) + 1
    rows = [{"layer": layer, **_over_probes(values, layer), "drawn": counts[layer]} for layer in range(number)]
    return {"unit": unit, "probes": len(values), "draws": len(draws), "layers": rows}


def _over_probes(values: list[list[float]], layer: int) -> dict[str, float | None]:
    if not values:
        return {"first": None, "last": None, "mean": None}
    own = [float(probe[layer]) for probe in values]
    return {"first": own[0], "last": own[-1], "mean": fmean(own)}
