"""What every alignment method is told, and how a method declares and checks settings of its own. Torch-free.

A method's settings are a subclass of `AlignmentSettings`. Each field says what it allows where it is declared::

    @dataclass(frozen=True, kw_only=True)
    class MyConfig(AlignmentSettings):
        method: str = choice("mine", ("mine",))
        alpha: float = number(0.1, 0.0, 100.0)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from tvaccine_core.data.rows import Row
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.models.quantizations import QUANTIZATIONS

Rule = Callable[[str, Any], None]  # (field name, value); raises InvalidRequest


def choice(default: str, options: tuple[str, ...]) -> Any:
    """A field that takes one of `options`."""

    def rule(name: str, value: Any) -> None:
        if value not in options:
            raise InvalidRequest(f"{name} must be one of {', '.join(options)}, not {value!r}.", param=name)

    return _field(default, rule)


def flag(default: bool) -> Any:
    """A field that is true or false."""

    def rule(name: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise InvalidRequest(f"{name} must be true or false, not {value!r}.", param=name)

    return _field(default, rule)


def text(default: str, longest: int) -> Any:
    """A field that holds a text that is not blank, of at most `longest` characters."""

    def rule(name: str, value: Any) -> None:
        if not isinstance(value, str) or not value.strip() or len(value) > longest:
            raise InvalidRequest(f"{name} must be a text of 1 to {longest} characters, not blank.", param=name)

    return _field(default, rule)


def number(default: float | None, low: float, high: float) -> Any:
    """A field that holds a number from low to high, both allowed; with the default None also None."""

    def rule(name: str, value: Any) -> None:
        if not (default is None and value is None):
            _check_number(name, value, (low, high), (int, float), "a number")

    return _field(default, rule)


def whole(default: int, low: int = 1, high: int = 10**9) -> Any:
    """A field that holds a whole number from low to high, both allowed."""

    def rule(name: str, value: Any) -> None:
        _check_number(name, value, (low, high), (int,), "a whole number")

    return _field(default, rule)


def _field(default: Any, rule: Rule) -> Any:
    return dataclasses.field(default=default, metadata={"rule": rule})


def _check_number(name: str, value: Any, limits: tuple[float, float], kinds: tuple[type, ...], kind: str) -> None:
    right_kind = isinstance(value, kinds) and not isinstance(value, bool)
    if not right_kind or not math.isfinite(value) or not limits[0] <= value <= limits[1]:
        raise InvalidRequest(f"{name} must be {kind} from {limits[0]:g} to {limits[1]:g}, not {value!r}.", param=name)


@dataclass(frozen=True, kw_only=True)
class AlignmentSettings:
    """The settings that all alignment methods share; a method's own class adds its own.

    method: the name that the class goes by; a subclass declares its default and its choices.
    steps: optimizer steps. batch_size: rows a micro-batch; gradients of gradient_accumulation_steps micro-batches are
        averaged. max_length: tokens a row at most.
    warmup_ratio: share of the steps with rising learning rate. max_grad_norm: 0 clips nothing.
    save_every: steps between checkpoints.
    quantization: "4bit" trains on a base whose linear maps are kept in 4 bits (QLoRA, arXiv 2305.14314; CUDA only);
        "none" on the base as it is. The vaccine is of the base as published either way.
    """

    method: str
    steps: int = whole(80)
    batch_size: int = whole(4)
    gradient_accumulation_steps: int = whole(1)
    learning_rate: float = number(1e-3, 1e-9, 1.0)
    weight_decay: float = number(0.1, 0.0, 1.0)
    warmup_ratio: float = number(0.1, 0.0, 1.0)
    schedule: str = choice("cosine", ("cosine", "linear", "constant", "constant_with_warmup"))
    max_grad_norm: float = number(1.0, 0.0, 1e4)
    max_length: int = whole(256, 8, 10**6)
    lora_r: int = whole(8)
    lora_alpha: int = whole(8)
    lora_dropout: float = number(0.0, 0.0, 0.9)
    seed: int = whole(42, 0, 2**32 - 1)
    save_every: int = whole(20)
    quantization: str = choice("none", QUANTIZATIONS)

    without_harmful_rows: ClassVar[str] = "use the method 'vaccine' or 'sft'"
    """What to do for want of harmful rows: ends the sentence that asks for them."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if "rule" in field.metadata:
                field.metadata["rule"](field.name, getattr(self, field.name))

    @property
    def needs_harmful_rows(self) -> bool:
        """Whether the run opens the file of rows with harmful answers."""
        return True

    @property
    def may_share_prompts(self) -> bool:
        """Whether a prompt may stand in the alignment and in the harmful file: yes, where both are trained on."""
        return True

    def check_rows(self, alignment: Sequence[Row], harmful: Sequence[Row]) -> None:
        """Refuse rows that this method cannot work with, before anything is loaded. Raises InvalidRequest."""
        del alignment, harmful

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain JSON values; raises InvalidRequest with `param` set to the field at fault."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise InvalidRequest(
                    f"'{name}' is not a setting of alignment. Use one of: {', '.join(sorted(known))}.", param=name
                )
        return cls(**{name: _as_declared(known[name].default, value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain JSON values; `from_dict` takes them back."""
        return dataclasses.asdict(self)


def _as_declared(default: Any, value: Any) -> Any:
    """JSON has one number type: 3 is a good learning rate and 8.0 a good number of rows."""
    if isinstance(value, bool):
        return value
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if isinstance(default, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
