"""Engines and transactions. SQLite runs in WAL mode and every writing transaction starts BEGIN IMMEDIATE:

a deferred one that reads and then writes fails with "database is locked" under a few concurrent writers,
whatever the busy timeout. PostgreSQL runs in its default READ COMMITTED.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker

from service.db.clock import db_now as db_now
from tvaccine_core.errors import InvalidRequest

_READ_ONLY = "tvaccine_read_only"
_BUSY_MILLISECONDS = 30_000


def database_url(url: str) -> URL:
    """`url` with the driver we use. Raises InvalidRequest for another database or SQLite in memory."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidRequest("database_url is not a URL such as postgresql://user@host/name.") from error
    kind = parsed.get_backend_name() if parsed.drivername != "postgres" else "postgresql"
    if kind == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise InvalidRequest(f"database_url: {kind} is not supported; use sqlite or postgresql.")
    if not parsed.database or parsed.database == ":memory:":
        raise InvalidRequest("database_url: SQLite needs a file, several processes share it.")
    return parsed.set(drivername="sqlite+pysqlite")


def make_engine(url: str) -> Engine:
    """An engine for `url`; creates the directory of a SQLite file."""
    target = database_url(url)
    if target.get_backend_name() == "sqlite":
        Path(str(target.database)).expanduser().parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(target, pool_size=10, max_overflow=20)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        target, pool_size=10, max_overflow=20, pool_pre_ping=True, connect_args={"connect_timeout": 10}
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not start transactions of its own
    for pragma in (f"busy_timeout={_BUSY_MILLISECONDS}", "journal_mode=WAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    read_only = bool(connection.get_execution_options().get(_READ_ONLY))
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """Makes sessions whose rows stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(factory: sessionmaker[Session]) -> Iterator[Session]:
    """One writing transaction: committed at the end of the block, rolled back if it raises.

    The database is first touched by the first statement, so slow work before it holds no lock.
    """
    with factory() as session, session.begin():
        yield session


@contextmanager
def read_transaction(factory: sessionmaker[Session]) -> Iterator[Session]:
    """One reading transaction; a write in it is an error of the database on both backends."""
    with factory() as session:
        session.connection(execution_options={_READ_ONLY: True, **_postgresql_read_only(session)})
        yield session  # closed, not rolled back: a rollback would make the rows unreadable afterwards


def _postgresql_read_only(session: Session) -> dict[str, bool]:
    return {"postgresql_readonly": True} if session.get_bind().dialect.name == "postgresql" else {}
