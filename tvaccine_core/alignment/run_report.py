"""What a reader wants to know of a finished alignment run."""

from __future__ import annotations

import resource
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from tvaccine_core.alignment.settings import AlignmentSettings
from tvaccine_core.alignment.trainer import TVaccineTrainer
from tvaccine_core.training.metrics import read_metrics
from tvaccine_core.training.trainer import AdapterTrainer


def run_report(trainer: AdapterTrainer, config: AlignmentSettings, metrics: Path, seconds: float) -> dict[str, Any]:
    """method, config, steps, train_loss, the mean of every loss over the last tenth of the steps (`final_...`), and
    what the method has to tell. seconds and peak memory (bytes) are this attempt's.
    """
    lines = [line for line in read_metrics(metrics) if "loss" in line]
    return {
        "method": config.method,
        "config": config.to_dict(),
        "steps": trainer.state.global_step,
        "train_loss": fmean(line["loss"] for line in lines),
        **_final_losses(lines[-max(1, len(lines) // 10) :]),
        **_told_by(trainer),
        "seconds": round(seconds, 3),
        "peak_memory": _peak_memory(trainer.args.device),
    }


def _final_losses(last: list[dict[str, Any]]) -> dict[str, float]:
    measured = {name for line in last for name, value in line.items() if value is not None}
    names = sorted(name for name in measured if name == "loss" or name.startswith("loss_"))
    return {f"final_{name}": fmean(line[name] for line in last if line.get(name) is not None) for name in names}


def _told_by(trainer: AdapterTrainer) -> dict[str, Any]:
    if isinstance(trainer, TVaccineTrainer):
        return dict(trainer.history)
    tell = getattr(trainer, "report", None)
    return {} if tell is None else dict(tell())


def _peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes: allocated and reserved on a GPU, else the process's resident set."""
    if device.type == "cuda":
        return {
            "allocated": torch.cuda.max_memory_allocated(device),
            "reserved": torch.cuda.max_memory_reserved(device),
        }
    return {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
