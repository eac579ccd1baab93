"""Adapter files as PEFT reads them: adapter_model.safetensors and adapter_config.json, and nothing
pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.training.files import write_json_atomic

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


def adapter_weights(model: PeftModel, name: str) -> dict[str, Tensor]:
    """One adapter's tensors under PEFT's file keys, on the CPU, sorted by key."""
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return {key: state[key].detach().to("cpu").contiguous() for key in sorted(state)}


def save_adapter(model: PeftModel, name: str, directory: Path, *, base_id: str | None = None) -> None:
    """Writes one adapter as adapter_model.safetensors and adapter_config.json, readable by PEFT alone.

    base_id: the base's public name for the config; never a path of this machine.
    """
    directory.mkdir(parents=True, exist_ok=True)
    save_file(adapter_weights(model, name), directory / WEIGHTS_FILE, metadata={"format": "pt"})
    write_config(model.peft_config[name], directory, base_id)


def write_config(config: Any, directory: Path, base_id: str | None) -> None:
    """Writes adapter_config.json with the public base id, ready for inference."""
    kept = config.base_model_name_or_path, config.inference_mode
    config.base_model_name_or_path, config.inference_mode = base_id, True
    try:
        config.save_pretrained(str(directory))
    finally:
        config.base_model_name_or_path, config.inference_mode = kept
    # PEFT writes sets in an order that changes from process to process.
    written = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    for name in ("target_modules", "exclude_modules"):
        if isinstance(written.get(name), list):
            written[name] = sorted(written[name])
    write_json_atomic(directory / CONFIG_FILE, written)


def load_adapter_weights(model: PeftModel, name: str, directory: Path) -> None:
    """Copies an adapter file into the adapter `name` that is already on the model.

    Raises InvalidRequest if the file's tensors are not exactly the adapter's.
    """
    state = load_file(directory / WEIGHTS_FILE)
    expected = adapter_weights(model, name)
    if {key: value.shape for key, value in state.items()} != {k: v.shape for k, v in expected.items()}:
        raise InvalidRequest(
            f"The adapter in {directory.name} has other tensors than the one on the model; use the settings "
            "it was trained with."
        )
    set_peft_model_state_dict(model, state, adapter_name=name)
