"""Turning a GGUF file into a plain float32 model directory, once.

transformers keeps GGUF weights packed unless told otherwise, and packed weights cannot carry an adapter's
gradients; so they are unpacked here and saved as safetensors with the tokenizer, and loaded from there ever
after.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from tvaccine_core.errors import Unavailable, UnknownBase
from tvaccine_core.models.digest import files_digest
from tvaccine_core.models.registry import cache_dir, cache_lock


def converted(gguf: Path) -> tuple[Path, str]:
    """The model directory for any GGUF file, unpacked into the cache if it is not there yet, and its digest.

    The digest is that of the GGUF file. Raises UnknownBase if the file is no model that transformers can
    read.
    """
    digest = files_digest([gguf])
    directory = cache_dir() / "bases" / f"gguf-{digest.removeprefix('sha256:')[:24]}"
    with cache_lock(directory.name):
        if not (directory / "config.json").is_file():
            convert(gguf, directory, name=gguf.stem)
    return directory, digest


def convert(gguf: Path, directory: Path, *, name: str) -> None:
    """Unpacks `gguf` to `directory`, which appears whole or not at all. The caller holds the lock.

    name: recorded as the model's name in its config, in place of the GGUF file's internal title.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    part = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.part")
    try:
        _unpack(gguf, part, name)
        part.rename(directory)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unpack(gguf: Path, part: Path, name: str) -> None:
    try:
        import gguf as _  # noqa: F401 - transformers needs it and says so only deep inside
    except ImportError as error:
        message = "Reading a GGUF file needs the package gguf; install tvaccine[embedded]."
        raise Unavailable(message) from error
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent),
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    except MemoryError:
        raise
    except Exception as error:  # a broken file surfaces as almost any error of the parsers below
        message = f"{gguf.name} is no GGUF model that can be read ({error}); check the file."
        raise UnknownBase(message) from error
    for title in ("_model_name_or_path", "_name_or_path"):
        setattr(model.config, title, name)
    model.save_pretrained(str(part), safe_serialization=True)
    tokenizer.save_pretrained(str(part))
