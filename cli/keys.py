"""`tvaccine keys`: API keys, made on the machine that holds the database."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli.output import JsonOption, finish

keys_app = typer.Typer(help="API keys.", no_args_is_help=True)


class Role(StrEnum):
    """What the holder of a key may do."""

    USER = "user"
    ADMIN = "admin"


@keys_app.callback()
def _group() -> None:
    """API keys."""


@keys_app.command("create")
def create_command(
    project: Annotated[str, typer.Option(help="Name of the project; made if there is none.")],
    role: Annotated[Role, typer.Option(help="user: files and jobs of the project; admin: also the server.")],
    as_json: JsonOption = False,
) -> None:
    """Make a key and print its secret, which is stored nowhere."""
    from service.db.engine import make_engine, session_factory, transaction
    from service.db.migrate import upgrade
    from service.keys import create_key, ensure_project
    from service.settings import load_settings

    settings = load_settings()
    settings.make_directories()
    upgrade(settings.database_url)
    engine = make_engine(settings.database_url)
    with transaction(session_factory(engine)) as session:
        key, secret = create_key(session, ensure_project(session, project).id, role.value)
    engine.dispose()
    result = {
        "id": key.id,
        "project_id": key.project_id,
        "role": key.role,
        "project": project,
        "api_key": secret,
    }
    words = f"{secret}\n(key {key.id} of project {project}, role {key.role}; shown only now)"
    finish(result, words, as_json=as_json)
