"""Keyset pages: rows after a given one in (created_at, id) order, which stays right while rows are added."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from service.ids import storable
from tvaccine_core.errors import InvalidRequest

RowType = TypeVar("RowType")


def keyset_page(
    session: Session,
    statement: Select[RowType],
    model: type[Any],
    *,
    after: str | None,
    limit: int,
    descending: bool = True,
) -> Sequence[RowType]:
    """At most `limit` rows of `statement`, ordered by age, that come after the row with the id `after`.

    `statement` selects whole rows of `model` and already holds the caller's filters: a cursor that they hide
    raises InvalidRequest (param ``after``), like one that does not exist.
    """
    key = tuple_(model.created_at, model.id)
    if after is not None:
        known = session.scalars(statement.where(model.id == after)) if storable(after) else None
        row: Any = None if known is None else known.one_or_none()
        if row is None:
            raise InvalidRequest(f"No object {after!r} to continue after.", param="after")
        start = tuple_(row.created_at, row.id)
        statement = statement.where(key < start if descending else key > start)
    order = (model.created_at.desc(), model.id.desc()) if descending else (model.created_at, model.id)
    return session.scalars(statement.order_by(*order).limit(limit)).all()
