"""The `tvaccine` command. Importing it loads neither torch nor the database: commands do when they run."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from cli.base import base_app
from cli.check import check_command
from cli.keys import keys_app
from cli.output import JSON_FLAG, report_error
from cli.up import up_command
from cli.vaccinate import vaccinate_command
from tvaccine_core.errors import TVaccineError

LATER: dict[str, tuple[str, str]] = {
    "serve": ("cli.serve", "serve_app"),
    "migrate": ("cli.serve", "migrate_command"),
    "score": ("cli.score", "score_command"),
    "certify": ("cli.certify", "certify_command"),
    "report": ("cli.report", "report_command"),
    "judge": ("cli.judge", "judge_app"),
    "attack": ("cli.attack", "attack_command"),
    "bench": ("cli.bench", "bench_command"),
    "estimate": ("cli.estimate", "estimate_command"),
    "demo": ("cli.demo.command", "demo_command"),
}
"""Commands whose modules are imported when they are asked for: (module, attribute)."""


class CommandGroup(TyperGroup):
    """The commands of `app` and those of `LATER` that this installation has."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, for the help."""
        there = [name for name, (module, _) in LATER.items() if importlib.util.find_spec(module)]
        return [*super().list_commands(ctx), *there]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now if it is one of `LATER`."""
        if cmd_name in LATER:
            module, attribute = LATER[cmd_name]
            return _as_command(cmd_name, module, attribute) if importlib.util.find_spec(module) else None
        return super().get_command(ctx, cmd_name)


def _as_command(name: str, module: str, attribute: str) -> Any:
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = name
    return command


app = typer.Typer(
    name="tvaccine",
    cls=CommandGroup,
    help="Fine-tuning that stays safe: vaccinate the base, fine-tune, score, release what passes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(up_command)
app.command("check")(check_command)
app.command("vaccinate")(vaccinate_command)
app.add_typer(keys_app, name="keys")
app.add_typer(base_app, name="base")


def main() -> None:
    """Run the command line; an error made for the user becomes one line and exit status 1."""
    try:
        app()
    except TVaccineError as error:
        report_error(error, as_json=JSON_FLAG in sys.argv[1:])
        sys.exit(1)


if __name__ == "__main__":
    main()
