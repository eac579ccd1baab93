"""Cursor pages in OpenAI's form: ask for one row more than wanted, and say if it was there."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query

from api.schemas.lists import BoundedPage, Page

Row = TypeVar("Row")
Item = TypeVar("Item")

After = Annotated[
    str | None,
    Query(max_length=128, description="The id of the last item of the page before; unknown ids are refused."),
]
Limit = Annotated[int, Query(ge=1, le=1000, description="The most items to return.")]
FileLimit = Annotated[int, Query(ge=1, le=10_000, description="The most files to return.")]


def page(rows: Sequence[Row], limit: int, show: Callable[[Row], Item]) -> Page[Item]:
    """The page of `rows`, of which `limit + 1` were asked for."""
    return Page(data=[show(row) for row in rows[:limit]], has_more=len(rows) > limit)


def bounded_page(
    rows: Sequence[Row], limit: int, show: Callable[[Row], Item], key: Callable[[Row], str]
) -> BoundedPage[Item]:
    """Like `page`, with the first and the last id on it."""
    kept = rows[:limit]
    return BoundedPage(
        data=[show(row) for row in kept],
        has_more=len(rows) > limit,
        first_id=key(kept[0]) if kept else None,
        last_id=key(kept[-1]) if kept else None,
    )
