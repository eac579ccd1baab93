"""The YAML of a grid as plain values. Imports no torch.

Only plain YAML is read: no tags that make objects. A key that stands twice is a fault, numbers may be written as 1e-4
(which YAML itself takes for a text), and `${NAME}` in a text is the environment variable NAME.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments.keys import refuse

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def read_grid_file(path: Path, *, fill: bool = True) -> dict[str, Any]:
    """The mapping in a YAML file. fill: put variables in; without it the values can be published.

    Raises InvalidRequest (param "grid", or the key) for anything else.
    """
    import yaml

    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read ({error.strerror}); give a YAML file.", param="grid") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidRequest(f"{path.name} is not YAML ({reason}); correct it.", param="grid") from error
    if node is None:
        raise InvalidRequest(f"{path.name} is empty; write a grid (see docs/bench.md).", param="grid")
    _refuse_doubles(node, "")
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path.name}: {' '.join(str(error).split())}; use plain values.", param="grid") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path.name} must hold a mapping such as `methods: [...]`.", param="grid")
    return {str(key): _plain(item, str(key), fill) for key, item in value.items()}


def _refuse_doubles(node: Any, path: str) -> None:
    """Refuses a mapping that names a key twice: YAML would take the last one and say nothing."""
    if node.id == "mapping":
        seen: set[str] = set()
        for key, value in node.value:
            where = f"{path}.{key.value}".lstrip(".")
            if key.value in seen:
                refuse(where, f"stands twice (line {key.start_mark.line + 1}); keep one of them.")
            seen.add(str(key.value))
            _refuse_doubles(value, where)
    elif node.id == "sequence":
        for place, value in enumerate(node.value):
            _refuse_doubles(value, f"{path}[{place}]")


def _plain(value: Any, path: str, fill: bool) -> Any:
    """The value with its variables filled in and its 1e-4 read as numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{path}.{key}", fill) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, f"{path}[{place}]", fill) for place, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    if _EXPONENT.fullmatch(value):
        return float(value)
    return _VARIABLE.sub(lambda found: _variable(found[1], path), value) if fill else value


def _variable(name: str, path: str) -> str:
    value = os.environ.get(name)
    if not value:
        refuse(path, f"the environment variable {name} is not set; set it, or write the path.")
    return value
