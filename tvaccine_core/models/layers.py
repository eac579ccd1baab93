"""Where the decoder layers and their attention modules sit in a causal language model.

Everything is found by module path, never by class name: a class name changes with the attention kernel and with
every wrapper, a path does not. Works on a bare transformers model and through PEFT's wrappers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from tvaccine_core.errors import UnsupportedArchitecture

# Children of a layer that mix positions without being softmax attention: a layer that has one is not a plain
# attention layer, even if it also holds an attention module.
_STATE_SPACE = ("mamba", "ssm", "mixer", "recurrent", "linear_attn", "rwkv", "temporal_block", "short_conv")


@dataclass(frozen=True)
class Layers:
    """The decoder layers of one model and the attention module of each.

    path, attention_name: `path.{i}.attention_name` is the dotted path of layer i's attention module.
    layers[i] and attention[i] belong together; i counts from 0 at the embedding end.
    """

    path: str
    attention_name: str
    layers: nn.ModuleList
    attention: tuple[nn.Module, ...]

    def __len__(self) -> int:
        return len(self.attention)

    @property
    def layer_paths(self) -> tuple[str, ...]:
        """Dotted path of each layer, in order."""
        return tuple(f"{self.path}.{i}" for i in range(len(self)))

    @property
    def attention_paths(self) -> tuple[str, ...]:
        """Dotted path of each attention module, in order."""
        return tuple(f"{path}.{self.attention_name}" for path in self.layer_paths)


def find_layers(model: nn.Module) -> Layers:
    """Find the decoder layers of `model` and the one attention module in each.

    Raises UnsupportedArchitecture, naming the model, for anything that has no single list of layers with exactly
    one attention module each: encoder-decoders, state-space models, hybrids of attention and state-space layers.
    """
    config = _text_config(model)
    if getattr(config, "is_encoder_decoder", False):
        raise _unsupported(model, "it is an encoder-decoder")
    expected = getattr(config, "num_hidden_layers", None)
    reasons: list[str] = []
    found: list[Layers] = []
    for path, candidates in _layer_lists(model, expected):
        layers = _judge(path, candidates, reasons)
        if layers is not None:
            found.append(layers)
    if len(found) == 1:
        return found[0]
    if found:
        raise _unsupported(model, "it has several stacks of layers: " + ", ".join(f.path for f in found))
    raise _unsupported(model, reasons[0] if reasons else "no list of decoder layers was found")


def _text_config(model: nn.Module) -> Any:
    config = getattr(model, "config", None)
    get_text_config = getattr(config, "get_text_config", None)
    return get_text_config() if callable(get_text_config) else config


def _layer_lists(model: nn.Module, expected: int | None) -> Iterator[tuple[str, nn.ModuleList]]:
    """Module lists of the right length that are not inside another one (experts sit inside layers)."""
    taken: list[str] = []
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or len(module) == 0:
            continue
        if expected is not None and len(module) != expected:
            continue
        if any(path.startswith(outer + ".") for outer in taken):
            continue
        taken.append(path)
        yield path, module


def _judge(path: str, candidates: nn.ModuleList, reasons: list[str]) -> Layers | None:
    """The layers at `path`, or None with the reason why they do not fit."""
    names: set[str] = set()
    for index, layer in enumerate(candidates):
        mixers = [name for name, _ in layer.named_children() if _is_state_space(name)]
        attention = [name for name, child in layer.named_children() if _is_attention(name, child)]
        if mixers:
            reasons.append(f"layer {path}.{index} mixes positions with '{mixers[0]}', not with attention alone")
            return None
        if len(attention) != 1:
            count = "no attention module" if not attention else "the attention modules " + ", ".join(attention)
            reasons.append(f"layer {path}.{index} has {count}")
            return None
        names.add(attention[0])
    if len(names) != 1:
        reasons.append(f"the layers at {path} name their attention differently: {', '.join(sorted(names))}")
        return None
    name = names.pop()
    return Layers(path, name, candidates, tuple(layer.get_submodule(name) for layer in candidates))


def _is_state_space(name: str) -> bool:
    return any(word in name.lower() for word in _STATE_SPACE)


def _is_attention(name: str, module: nn.Module) -> bool:
    """By name, and with at least two linear maps of its own (a norm called `attention_norm` has none)."""
    lowered = name.lower()
    if "attn" not in lowered and "attention" not in lowered:
        return False
    return sum(_is_linear(child) for child in module.children()) >= 2


def _is_linear(module: nn.Module) -> bool:
    base = getattr(module, "base_layer", module)
    weight = getattr(base, "weight", None)
    return weight is not None and weight.dim() == 2


def _unsupported(model: nn.Module, reason: str) -> UnsupportedArchitecture:
    config = getattr(model, "config", None)
    name = getattr(config, "_name_or_path", "") or type(model).__name__
    kind = getattr(config, "model_type", "unknown")
    return UnsupportedArchitecture(
        f"The model {name} (type {kind}) cannot be vaccinated: {reason}. "
        "Choose a decoder-only model with one attention module in each layer."
    )


def keep_all_layers(model: nn.Module) -> None:
    """Switch off LayerDrop: all losses of a step must be of one network, and a skipped layer cannot be perturbed."""
    for module in model.modules():
        if getattr(module, "layerdrop", 0.0) > 0.0:
            setattr(module, "layerdrop", 0.0)  # noqa: B010 - a plain attribute, not a parameter
