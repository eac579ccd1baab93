"""Which adapters train: T-Vaccine trains those of the drawn layers and freezes others for a window of steps.

A frozen adapter has `requires_grad` off and `grad` None, so AdamW skips it: no weight decay, its moments stay as they
are. All adapters must have been registered in the optimizer before the first freeze.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.layers import Layers


@dataclass(frozen=True)
class LayerAdapters:
    """The trainable parameters of one layer: inside its attention module, and elsewhere in the layer."""

    attention: tuple[nn.Parameter, ...]
    other: tuple[nn.Parameter, ...]


@dataclass(frozen=True)
class Window:
    """What holds between two draws.

    selected: the drawn layers, ascending. trainable: the parameters that train. lowest_trainable: the lowest layer
    that has one (the number of layers if there is none): below it nothing needs a graph.
    """

    selected: tuple[int, ...]
    trainable: tuple[nn.Parameter, ...]
    lowest_trainable: int


def find_adapters(model: nn.Module, layers: Layers) -> tuple[LayerAdapters, ...]:
    """Sort the trainable parameters of `model` by layer.

    Raises InvalidRequest if there are none, or if one lies outside the decoder layers (embeddings, head).
    """
    trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    sorted_out = []
    for layer, attention in zip(layers.layers, layers.attention, strict=True):
        inside = [parameter for parameter in attention.parameters() if parameter.requires_grad]
        ids = {id(parameter) for parameter in inside}
        rest = [p for p in layer.parameters() if p.requires_grad and id(p) not in ids]
        sorted_out.append(LayerAdapters(tuple(inside), tuple(rest)))
        trainable -= ids | {id(parameter) for parameter in rest}
    if trainable:
        raise InvalidRequest("Adapters outside the decoder layers cannot be aligned; adapt linear maps of layers only.")
    if not any(adapters.attention or adapters.other for adapters in sorted_out):
        raise InvalidRequest("The model has no trainable adapter to align.")
    return tuple(sorted_out)


def open_window(
    adapters: Sequence[LayerAdapters], selected: Sequence[int], *, method: str, freeze_scope: str, mlp_below: bool
) -> Window:
    """Freeze and unfreeze the adapters for the drawn layers and say what trains."""
    trainable: list[nn.Parameter] = []
    lowest = len(adapters)
    for index, layer in enumerate(adapters):
        attention = method != "t_vaccine" or index in selected
        other = attention or (freeze_scope == "attention" and (mlp_below or index > min(selected)))
        chosen = (layer.attention if attention else ()) + (layer.other if other else ())
        trainable.extend(chosen)
        if chosen:
            lowest = min(lowest, index)
        set_trainable(layer.attention, attention)
        set_trainable(layer.other, other)
    return Window(tuple(selected), tuple(trainable), lowest)


def set_trainable(parameters: Iterable[nn.Parameter], on: bool) -> None:
    """Switch parameters on, or off with their gradients dropped."""
    for parameter in parameters:
        parameter.requires_grad_(on)
        if not on:
            parameter.grad = None


def release_all(adapters: Sequence[LayerAdapters]) -> None:
    """Make every adapter trainable again (before an optimizer is made, and at the end of a run)."""
    for layer in adapters:
        set_trainable(layer.attention + layer.other, True)
