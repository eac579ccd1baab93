"""Alembic's entry: runs the migrations in one transaction.

The connection is the one it is given, or a fresh one to TVACCINE_DATABASE_URL.
"""

from alembic import context
from sqlalchemy import Connection

from service.db.engine import make_engine
from service.db.models import Base
from service.settings import get_settings

# Any fixed number does; two processes that start together then migrate one after the other.
_LOCK = 7_218_405


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    if context.is_offline_mode():
        raise SystemExit("Migrations read the present schema: run them against a database, without --sql.")
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    engine = make_engine(get_settings().database_url)
    with engine.begin() as own:
        _migrate(own)
    engine.dispose()


_run()
