"""Running decoder layers in parts, without knowing what is inside them.

`Interceptor` replaces the `forward` of every decoder layer and attention module of a model (on the instance; the list
of layers stays whole, because models pick masks by a layer's position in it) by one that asks the current `Pass`
what to do. A layer can then be run whole, up to the answer of its attention module, or from a given answer on. The
two parts together are the layer's own code: residuals, norms before or after the attention, parallel MLPs all stay
as the model has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from tvaccine_core.models.layers import Layers

# Called with (layer, part): part 0 where a layer starts, part 1 after its attention has answered.
Reseed = Callable[[int, int], None]


class _AttentionAnswered(Exception):  # noqa: N818 - not an error: it ends the first part of a layer
    def __init__(self, answer: Any) -> None:
        self.answer = answer


class LayerCall:
    """One call of one decoder layer, as the model makes it, with the hidden states left open.

    Hidden states are (B, T, d), or (1, n, d) for the part after the attention, which works on single positions.
    """

    __slots__ = ("_args", "_kwargs", "_site", "index")

    def __init__(self, site: _Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.index = site.index
        self._site = site
        self._args = args
        self._kwargs = kwargs

    @property
    def hidden(self) -> Tensor:
        """The hidden states that the model hands to this layer."""
        hidden: Tensor = self._args[0] if self._args else self._kwargs["hidden_states"]
        return hidden

    def without_mask(self) -> LayerCall:
        """The same call as for rows without padding, where what is causal is left to the attention kernel."""
        kept = {name: value for name, value in self._kwargs.items() if name != "attention_mask"}
        return LayerCall(self._site, self._args, {**kept, "attention_mask": None})

    def whole(self, hidden: Tensor) -> Tensor:
        """The layer's output for `hidden`."""
        site = self._site
        if site.owner.reseed is not None:
            site.owner.reseed(site.index, 0)
        if self._args:
            answer = site.layer_forward(hidden, *self._args[1:], **self._kwargs)
        else:
            answer = site.layer_forward(**{**self._kwargs, "hidden_states": hidden})
        site.extra = len(answer) - 1 if isinstance(answer, tuple) else None
        return first_of(answer)

    def until_attention(self, hidden: Tensor) -> Any:
        """What the layer's attention module answers, the attention output first."""
        self._site.stop = True
        try:
            self.whole(hidden)
        except _AttentionAnswered as reached:
            return reached.answer
        finally:
            self._site.stop = False
        raise RuntimeError(f"layer {self.index} did not call its attention module")

    def after_attention(self, hidden: Tensor, answer: Any, attention_output: Tensor) -> Tensor:
        """The layer's output from the residual addition on, with `attention_output` in place of the answer's."""
        self._site.given = _with_first(answer, attention_output)
        try:
            return self.whole(hidden)
        finally:
            self._site.given = None


class Pass:
    """What happens to layers and attention outputs in one forward of the model. This one changes nothing."""

    def layer(self, call: LayerCall) -> Tensor:
        """The layer's output; the hidden states at hand are `call.hidden`."""
        return call.whole(call.hidden)

    def attention(self, index: int, output: Tensor) -> Tensor:
        """The attention output of layer `index` to go on with in place of `output`, (B, T, d)."""
        del index
        return output


class _Site:
    """One layer with its attention module: their own forwards, and how the next attention call is answered."""

    __slots__ = ("attention_forward", "extra", "given", "index", "layer_forward", "owner", "stop")

    def __init__(self, index: int, owner: Interceptor, layer: nn.Module, attention: nn.Module) -> None:
        self.index = index
        self.owner = owner
        self.layer_forward: Callable[..., Any] = layer.forward
        self.attention_forward: Callable[..., Any] = attention.forward
        self.given: Any = None
        self.stop = False
        self.extra: int | None = None  # how many further values the layer returns in a tuple; None: no tuple

    def run_layer(self, *args: Any, **kwargs: Any) -> Any:
        current = self.owner.current
        if current is None:
            return self.layer_forward(*args, **kwargs)
        output = current.layer(LayerCall(self, args, kwargs))
        return output if self.extra is None else (output, *(None,) * self.extra)

    def run_attention(self, *args: Any, **kwargs: Any) -> Any:
        answer = self.attention_forward(*args, **kwargs) if self.given is None else self.given
        if self.stop:
            raise _AttentionAnswered(answer)
        if self.owner.reseed is not None:
            self.owner.reseed(self.index, 1)
        if self.given is not None or self.owner.current is None:
            return answer
        output = first_of(answer)
        changed = self.owner.current.attention(self.index, output)
        return answer if changed is output else _with_first(answer, changed)


class Interceptor:
    """Holds the replaced forwards of a model's layers; `remove` puts the originals back."""

    def __init__(self, layers: Layers) -> None:
        self.current: Pass | None = None
        self.reseed: Reseed | None = None
        self._replaced: list[tuple[nn.Module, Any]] = []
        for index, (layer, attention) in enumerate(zip(layers.layers, layers.attention, strict=True)):
            site = _Site(index, self, layer, attention)
            self._replace(layer, site.run_layer)
            self._replace(attention, site.run_attention)

    def _replace(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self._replaced.append((module, module.__dict__.get("forward")))
        module.__dict__["forward"] = forward

    @contextmanager
    def using(self, current: Pass) -> Iterator[None]:
        """Let `current` decide in the forwards inside the with block."""
        self.current = current
        try:
            yield
        finally:
            self.current = None

    def remove(self) -> None:
        """Give every module its own forward back."""
        for module, previous in self._replaced:
            if previous is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = previous
        self._replaced.clear()


def first_of(answer: Any) -> Tensor:
    """The tensor a module answers, alone or as the first of a tuple."""
    first: Tensor = answer[0] if isinstance(answer, tuple) else answer
    return first


def _with_first(answer: Any, first: Tensor) -> Any:
    return (first, *answer[1:]) if isinstance(answer, tuple) else first
