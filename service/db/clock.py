"""The one clock of leases: the database's, as float unix seconds."""

from typing import Any

from sqlalchemy import Double, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import FunctionElement


class unix_now(FunctionElement[float]):  # noqa: N801 - reads as an SQL function
    """SQL expression: the present by the database's clock, in seconds since 1970, to the millisecond."""

    type = Double()
    inherit_cache = True
    name = "unix_now"


@compiles(unix_now, "postgresql")
def _postgresql(_element: unix_now, _compiler: Any, **_kw: Any) -> str:
    # clock_timestamp() moves inside a transaction, now() does not: leases need the moving one.
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(unix_now, "sqlite")
def _sqlite(_element: unix_now, _compiler: Any, **_kw: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; the Julian day is exact to the millisecond in all versions.
    return "((julianday('now') - 2440587.5) * 86400.0)"


def db_now(session: Session) -> float:
    """Unix seconds by the database's clock."""
    return float(session.execute(select(unix_now())).scalar_one())
