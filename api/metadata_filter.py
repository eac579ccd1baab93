"""The metadata filter of the job listing: `metadata[k]=v`, repeatable, or `metadata=null`."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from tvaccine_core.errors import InvalidRequest

BRACKETED = re.compile(r"metadata\[(.+)\]", re.DOTALL)
MAX_PAIRS = 16

FILTER_PARAMETERS: dict[str, Any] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "required": False,
            "style": "deepObject",
            "explode": True,
            "schema": {
                "anyOf": [
                    {"type": "object", "additionalProperties": {"type": "string"}},
                    {"type": "null"},
                ]
            },
            "description": "`metadata[key]=value` keeps jobs with all these pairs; `metadata=null` keeps "
            "those without metadata.",
        }
    ]
}


@dataclass(frozen=True)
class MetadataFilter:
    """Pairs that must all be there; or `absent`: no metadata at all."""

    pairs: dict[str, str] = field(default_factory=dict)
    absent: bool = False


def metadata_filter(request: Request) -> MetadataFilter:
    """The filter that the query asks for. Raises InvalidRequest for forms that cannot be meant."""
    pairs: dict[str, str] = {}
    absent = False
    for name, value in request.query_params.multi_items():
        bracketed = BRACKETED.fullmatch(name)
        if bracketed:
            pairs[bracketed[1]] = value
        elif name == "metadata" and value == "null":
            absent = True
        elif name == "metadata" or name.startswith("metadata["):
            raise _wrong("Filter with metadata[key]=value, or with metadata=null.")
    if absent and pairs:
        raise _wrong("metadata=null and metadata[key]=value exclude each other.")
    if len(pairs) > MAX_PAIRS:
        raise _wrong(f"Filter with at most {MAX_PAIRS} pairs.")
    return MetadataFilter(pairs, absent)


def _wrong(words: str) -> InvalidRequest:
    return InvalidRequest(words, param="metadata", code="invalid_request")


MetadataFilterDep = Annotated[MetadataFilter, Depends(metadata_filter)]
