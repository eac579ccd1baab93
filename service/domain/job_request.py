"""A request for a fine-tuning job, and the checks that need no database."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from service.ids import storable
from tvaccine_core.errors import InvalidRequest

MAX_SEED = 2_147_483_647
_SUFFIX = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_. -]{1,64}", re.ASCII)
_METADATA_PAIRS, _METADATA_KEY, _METADATA_VALUE = 16, 64, 512
_MAX_IDEMPOTENCY_KEY = 255
_AUTO = "auto"
_LIMITS = {"n_epochs": (1, 50), "batch_size": (1, 256)}
_MULTIPLIER = "learning_rate_multiplier"


@dataclass(frozen=True)
class JobRequest:
    """What a user asks for, in plain JSON values and in OpenAI's words."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = None
    hyperparameters: Mapping[str, Any] | None = None
    method: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] | None = None
    integrations: Sequence[Mapping[str, Any]] | None = None
    idempotency_key: str | None = None

    def digest(self) -> str:
        """SHA-256 of all but the idempotency key, to tell a repeated request from another one."""
        values = asdict(self)
        del values["idempotency_key"]
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=dict).encode()).hexdigest()


@dataclass(frozen=True)
class Hyperparameters:
    """Numbers, or None for ``auto``."""

    n_epochs: int | None
    batch_size: int | None
    learning_rate_multiplier: float | None


def check(request: JobRequest) -> Hyperparameters:
    """The asked hyperparameters. Raises InvalidRequest naming the field at fault."""
    _check_suffix(request.suffix)
    _check_seed(request.seed)
    _check_metadata(request.metadata)
    _check_idempotency_key(request.idempotency_key)
    if request.integrations:
        message = "Integrations are not available on this server. Leave the field out."
        raise InvalidRequest(message, param="integrations")
    return _hyperparameters(_asked(request))


def _check_suffix(suffix: str | None) -> None:
    if suffix is not None and _SUFFIX.fullmatch(suffix) is None:
        raise InvalidRequest(
            "suffix has 1 to 64 of the characters a-z, A-Z, 0-9, '-', '_', '.' and space, and at least one "
            "letter or digit.",
            param="suffix",
        )


def _check_seed(seed: int | None) -> None:
    if seed is not None and (isinstance(seed, bool) or not 0 <= seed <= MAX_SEED):
        raise InvalidRequest(f"seed is a whole number from 0 to {MAX_SEED}.", param="seed")


def _check_metadata(metadata: Mapping[str, str] | None) -> None:
    if metadata is None:
        return
    if len(metadata) > _METADATA_PAIRS:
        raise InvalidRequest(f"metadata has at most {_METADATA_PAIRS} pairs.", param="metadata")
    for key, value in metadata.items():
        if not 1 <= len(key) <= _METADATA_KEY or not storable(key):
            raise InvalidRequest(f"A key in metadata has 1 to {_METADATA_KEY} characters.", param="metadata")
        if not isinstance(value, str) or len(value) > _METADATA_VALUE or not storable(value):
            message = f"A value in metadata is a string of at most {_METADATA_VALUE} characters."
            raise InvalidRequest(message, param="metadata")


def _check_idempotency_key(key: str | None) -> None:
    if key is not None and (not 1 <= len(key) <= _MAX_IDEMPOTENCY_KEY or not storable(key)):
        message = f"The idempotency key has 1 to {_MAX_IDEMPOTENCY_KEY} characters."
        raise InvalidRequest(message, param="Idempotency-Key")


def _asked(request: JobRequest) -> Mapping[str, Any]:
    """Hyperparameters, from `method` or from the older field."""
    older = request.hyperparameters or {}
    if request.method is None:
        return older
    kind = request.method.get("type")
    if kind != "supervised":
        message = f"Method {kind!r} is not available on this server. Use 'supervised'."
        raise InvalidRequest(message, param="method.type", code="unsupported_method")
    newer = (request.method.get("supervised") or {}).get("hyperparameters") or {}
    if older and newer and dict(older) != dict(newer):
        message = "hyperparameters and method.supervised.hyperparameters differ. Send only the second."
        raise InvalidRequest(message, param="hyperparameters")
    return newer or older


def _hyperparameters(asked: Mapping[str, Any]) -> Hyperparameters:
    known = {*_LIMITS, _MULTIPLIER}
    for name in asked:
        if name not in known:
            message = f"There is no hyperparameter {name!r}. There are: {', '.join(sorted(known))}."
            raise InvalidRequest(message, param=f"hyperparameters.{name}")
    counts = {name: _whole(name, asked.get(name), *bounds) for name, bounds in _LIMITS.items()}
    return Hyperparameters(counts["n_epochs"], counts["batch_size"], _multiplier(asked.get(_MULTIPLIER)))


def _whole(name: str, value: Any, low: int, high: int) -> int | None:
    if value is None or value == _AUTO:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        message = f"{name} is 'auto' or a whole number from {low} to {high}."
        raise InvalidRequest(message, param=f"hyperparameters.{name}")
    return value


def _multiplier(value: Any) -> float | None:
    if value is None or value == _AUTO:
        return None
    # Anything above this is no learning rate any more; it also keeps infinity out.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 10_000:
        message = f"{_MULTIPLIER} is 'auto' or a number greater than 0 and at most 10000."
        raise InvalidRequest(message, param=f"hyperparameters.{_MULTIPLIER}")
    return float(value)
