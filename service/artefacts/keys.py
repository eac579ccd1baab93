"""Names in the artefact store: made by us, checked by one strict pattern, free of anything a user wrote."""

import re
from typing import Literal

from service.ids import new_id
from tvaccine_core.errors import InvalidRequest

Area = Literal["uploads", "vaccines", "quarantine", "released", "reports"]
AREAS: tuple[Area, ...] = ("uploads", "vaccines", "quarantine", "released", "reports")

_KEY = re.compile(r"(uploads|vaccines|quarantine|released|reports)/[0-9a-hjkmnp-tv-z]{26}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}){0,3}", re.ASCII)


def new_key(area: Area) -> str:
    """A fresh key such as ``uploads/01k9...``."""
    return f"{area}/{new_id()}"


def check_key(key: str, *areas: Area) -> str:
    """`key`, if it is one of ours (and in one of `areas`, if any are named). Raises InvalidRequest."""
    if _KEY.fullmatch(key) is None or (areas and key.partition("/")[0] not in areas):
        raise InvalidRequest("This is not a key of the artefact store.", code="invalid_storage_key")
    return key


def check_name(name: str) -> str:
    """`name`, if it is a plain relative file name. Raises InvalidRequest."""
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest("This is not a name of a stored file.", code="invalid_storage_key")
    return name


def moved_to(key: str, area: Area) -> str:
    """The key with the same number in another area."""
    return f"{area}/{check_key(key).partition('/')[2]}"
