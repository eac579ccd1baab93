"""`tvaccine estimate`: what a vaccination will need of memory, before it is started."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import JsonOption, finish
from cli.vaccinate import parse_settings
from tvaccine_core.alignment.methods import DEFAULT_METHOD


def estimate_command(
    base: Annotated[str | None, typer.Option(help="Base model; default: the embedded one.")] = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"t_vaccine, vaccine or sft. Default: {DEFAULT_METHOD}.")
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setting of the method; repeatable.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the base's weights: bfloat16 or float32.")] = "bfloat16",
    as_json: JsonOption = False,
) -> None:
    """Say how much memory a training step will need at most; nothing is run and no weights are read."""
    settings = parse_settings(method, config or [])
    import torch

    from tvaccine_core.alignment.estimate import estimate_memory
    from tvaccine_core.models.base import base_config, choose_dtype
    from tvaccine_core.models.registry import EMBEDDED

    name = base or EMBEDDED
    numbers = choose_dtype(dtype, torch.device("cpu"))
    estimate = estimate_memory(base_config(name), settings, numbers)
    finish({"base": name, **estimate.to_dict()}, f"{name}: {estimate}", as_json=as_json)
