"""The error tree: wire fields and pickling."""

import inspect
import pickle

import pytest

from tvaccine_core import errors
from tvaccine_core.errors import InvalidRequest, TVaccineError, UnknownBase

ALL = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, TVaccineError)]


@pytest.mark.parametrize("cls", ALL)
def test_survives_pickling_with_every_field(cls: type[TVaccineError]) -> None:
    details = [{"line": 3, "path": "messages", "code": "x", "message": "m"}]
    error = cls("wrong; mend it.", param="seed", code="other", details=details)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert again.to_dict() == error.to_dict()
    assert (again.message, again.param, again.code, again.details) == (
        "wrong; mend it.",
        "seed",
        "other",
        details,
    )
    assert str(again) == "wrong; mend it."


@pytest.mark.parametrize("cls", ALL)
def test_type_follows_the_status(cls: type[TVaccineError]) -> None:
    assert 400 <= cls.status < 600
    assert cls.type == ("invalid_request_error" if cls.status < 500 else "server_error")


def test_class_defaults_and_overrides() -> None:
    assert UnknownBase("no").param == "model"
    assert UnknownBase("no").code == "model_not_found"
    assert UnknownBase("no", param="base").param == "base"
    assert InvalidRequest("no").to_dict() == {
        "message": "no",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_request_error",
    }


def test_details_are_not_shared_between_errors() -> None:
    first = InvalidRequest("a")
    first.details.append({"line": 1})
    assert InvalidRequest("b").details == []
