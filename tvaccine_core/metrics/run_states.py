"""The states that a training run went through: its checkpoints in order, put on a model one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peft import PeftModel, set_peft_model_state_dict
from torch import Tensor

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.adapter_files import adapter_weights
from tvaccine_core.training.checkpoints import checkpoint_step, is_complete


def checkpoints_of(directory: Path) -> list[Path]:
    """The complete checkpoints in a run's `checkpoints/`, by step. Raises InvalidRequest if there are none."""
    found = directory.glob("checkpoint-*") if directory.is_dir() else ()
    complete = [path for path in found if is_complete(path)]
    if not complete:
        raise InvalidRequest(
            f"{directory.name} holds no complete checkpoint; give the checkpoints folder of a run.", param="checkpoints"
        )
    return in_order(complete)


def in_order(checkpoints: Sequence[Path]) -> list[Path]:
    """Checkpoints by step. Raises InvalidRequest naming an incomplete one."""
    for path in checkpoints:
        if not is_complete(path):
            raise InvalidRequest(f"{path.name} was not saved to its end; leave it out.", param="checkpoints")
    return sorted(checkpoints, key=checkpoint_step)


@contextmanager
def kept_adapter(model: PeftModel, name: str) -> Iterator[dict[str, Tensor]]:
    """Inside the with block the adapter's weights may change; afterwards they are what they were, bit for bit.

    Yields a copy of these weights, for `set_adapter_weights`.
    """
    kept = {key: value.clone() for key, value in adapter_weights(model, name).items()}
    try:
        yield kept
    finally:
        set_adapter_weights(model, name, kept)


def set_adapter_weights(model: PeftModel, name: str, weights: dict[str, Tensor]) -> None:
    """Copies weights, as `adapter_weights` names them, into an adapter."""
    set_peft_model_state_dict(model, dict(weights), adapter_name=name)
