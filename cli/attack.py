"""`tvaccine attack`: write the training file of an attack, to test a defence with."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import JsonOption, finish, say
from cli.vaccinate import parse_config
from tvaccine_core.attacks.attack import Attack
from tvaccine_core.attacks.conversations import ChatRow
from tvaccine_core.attacks.harmful_rows import KNOWN, KnownPrompts
from tvaccine_core.attacks.personas import CHAT, WRITTEN
from tvaccine_core.attacks.pools import one_per_question, read_pool, single_exchanges
from tvaccine_core.attacks.registry import ATTACKS, attack_config
from tvaccine_core.data.datasets import file_digest, read_prompts
from tvaccine_core.errors import InvalidRequest

LIST = "list"


def attack_command(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(ATTACKS)}; or {LIST}: what each needs.")],
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="The training file.")] = None,
    rows: Annotated[
        list[str] | None, typer.Option(metavar="POOL=FILE", help="Rows to draw from, such as harmful=FILE; repeatable.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="POOL.FIELD=VALUE", help="Only rows with this value, such as harmful.split=train."),
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setting, such as ratio=0.1; repeatable.")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Prompts of the scoring; no row asks one of them.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="For noice: the model that writes the refusals.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and rows, same file.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write an attack's training file, in the form in which users upload theirs."""
    if name == LIST:
        finish({"attacks": described()}, _words(), as_json=as_json)
        return
    attack = attack_config({"name": name, **parse_config(config or [])})
    if out is None:
        raise InvalidRequest("Say where the training file goes: --out FILE.", param="out")
    pools = _pools(attack, rows or [], where or [])
    if base is not None and WRITTEN in attack.needs and WRITTEN not in pools and CHAT in pools:
        pools[WRITTEN] = _written(base, pools[CHAT], attack.poisoned)
    barred = [row.prompt for row in read_prompts(held_out)] if held_out else []
    made = attack.rows(pools, seed, barred)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), encoding="utf-8")
    result = {"out": str(out), "rows": len(made), "sha256": file_digest(out), "seed": seed, "attack": attack.to_dict()}
    finish(result, f"{len(made)} rows of {name} lie in {out}", as_json=as_json)


def described() -> dict[str, Any]:
    """What each attack is, needs and can be told."""
    return {
        name: {
            "about": (kind.__doc__ or "").split("\n\n")[0].strip(),
            "source": kind.source,
            "needs": dict(kind.needs),
            "takes": dict(kind.takes),
            "settings": {field.name: field.default for field in dataclasses.fields(kind)},
        }
        for name, kind in ATTACKS.items()
    }


def _words() -> str:
    lines = []
    for name, about in described().items():
        settings = ", ".join(f"{key}={value}" for key, value in about["settings"].items())
        lines += [f"{name} ({about['source']})", f"  {' '.join(about['about'].split())}", f"  settings: {settings}"]
        lines += [f"  needs {pool}: {meaning}" for pool, meaning in about["needs"].items()]
        lines += [f"  takes {pool}: {meaning}" for pool, meaning in about["takes"].items()]
    return "\n".join(lines)


def _pools(attack: Attack, rows: list[str], where: list[str]) -> dict[str, list[ChatRow]]:
    """The rows of each file named, one a question where questions repeat."""
    filters: dict[str, dict[str, Any]] = defaultdict(dict)
    for pair in where:
        key, equals, value = pair.partition("=")
        pool, dot, field = key.partition(".")
        if not (equals and dot and field):
            raise InvalidRequest(f"--where {pair}: write it as POOL.FIELD=VALUE.", param="where")
        filters[pool][field] = value
    known = {*attack.needs, *attack.takes}
    found = {}
    for pair in rows:
        pool, equals, file = pair.partition("=")
        if not equals or pool not in known:
            raise InvalidRequest(
                f"--rows {pair}: write it as POOL=FILE; {attack.name} knows {', '.join(sorted(known))}.", param="rows"
            )
        found[pool] = one_per_question(_rows(Path(file), pool, filters[pool]))
    return found


def _rows(file: Path, pool: str, where: dict[str, Any]) -> list[ChatRow]:
    if pool == KNOWN:
        return KnownPrompts.known_rows(prompt.prompt for prompt in read_prompts(file))
    return read_pool(file, where, param=pool)


def _written(base: str, chat: list[ChatRow], wanted: int) -> list[ChatRow]:
    from tvaccine_core.attacks.written_refusals import NEW_TOKENS, write_refusals
    from tvaccine_core.metrics.answering import greedy
    from tvaccine_core.models.base import load_base

    say(f"tvaccine: {base} writes {wanted} refusals")
    loaded = load_base(base)
    answer = greedy(loaded.model, loaded.tokenizer)
    return write_refusals(single_exchanges(chat), lambda prompts: answer(prompts, NEW_TOKENS), wanted)
