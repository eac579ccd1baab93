"""Identifiers of records: a readable prefix and a ULID, sortable by creation to the millisecond."""

from ulid import ULID

PROJECT = "proj_"
API_KEY = "key_"
FILE = "file-"
FINE_TUNING_JOB = "ftjob-"
VACCINATION_JOB = "vacjob-"
EVENT = "ftevent-"
CHECKPOINT = "ftckpt_"
VACCINE = "vac_"
EVALUATION = "eval_"
ADAPTER = "adp_"
AUDIT = "aud_"


def storable(text: str) -> bool:
    """Can a database keep this text? PostgreSQL has no NUL, and half a surrogate pair is no UTF-8."""
    if "\x00" in text:
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def new_id(prefix: str = "") -> str:
    """A fresh identifier such as ``ftjob-01k9...``: the prefix and 26 lower-case characters."""
    return f"{prefix}{str(ULID()).lower()}"
