"""Random noise on a finished user adapter: what any repair has to beat (Panacea, arXiv 2501.18100, section 3).

Panacea's paper starts from the finding that N(0, sigma^2) on the weights of a harmfully tuned model already restores
much of its safety, and costs accuracy. Panacea's perturbation is worth its price where it does more for less.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tvaccine_core.alignment.perturbation import frobenius_norms, joint_norm
from tvaccine_core.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from tvaccine_core.models.adapter_records import read_record, write_record
from tvaccine_core.models.combination import combine_adapters
from tvaccine_core.repair.earlier import earlier_record
from tvaccine_core.repair.noise_config import NoiseConfig
from tvaccine_core.training.files import write_json_atomic


def add_noise(vaccine_dir: Path | None, user_adapter_dir: Path, out: Path, config: NoiseConfig) -> None:
    """Adds N(0, sigma^2) to every tensor of a user adapter; the same seed adds the same.

    vaccine_dir: the one that the adapter was trained beside, if any; nothing is added to it. user_adapter_dir: the
    `user/` of a finished run; its files stay as they are.
    Leaves in `out`: user/, combined/ (the adapter to score) and report.json with the settings and noise_norm, the L2
    norm of all that was added.
    Raises InvalidRequest if the directory holds no user adapter, or one of another vaccine.
    """
    record = earlier_record(user_adapter_dir, vaccine_dir)
    draw = torch.Generator().manual_seed(config.seed)
    weights = load_file(user_adapter_dir / WEIGHTS_FILE)
    noise = {name: config.sigma * torch.randn(weights[name].shape, generator=draw) for name in sorted(weights)}
    for name, tensor in weights.items():
        tensor += noise[name].to(tensor.dtype)
    user, combined = out / "user", out / "combined"
    user.mkdir(parents=True, exist_ok=True)
    save_file(weights, user / WEIGHTS_FILE, metadata={"format": "pt"})
    shutil.copyfile(user_adapter_dir / CONFIG_FILE, user / CONFIG_FILE)
    defences = [*(record.get("defences") or []), config.to_dict()]
    write_record(user, **{**record, "defences": defences})
    base = {"base_id": record["base_name"], "base_digest": record["base_digest"]}
    combine_adapters(vaccine_dir, user, combined, **base)
    write_record(combined, **{**read_record(combined), "defences": [one["name"] for one in defences]})
    norm = float(joint_norm(frobenius_norms(list(noise.values()))))
    write_json_atomic(out / "report.json", {**config.to_dict(), "noise_norm": norm})
