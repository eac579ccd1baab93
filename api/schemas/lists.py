"""The envelope of every listing."""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page. To get the next, send `after=<id of the last item>` while `has_more` is true."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool = False


class BoundedPage(Page[Item], Generic[Item]):
    """A page that also names its first and last id."""

    first_id: str | None = None
    last_id: str | None = None
