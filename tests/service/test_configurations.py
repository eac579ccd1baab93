"""How a vaccine is made, by the request and the operator's settings."""

from typing import Any

import pytest

from service.configurations import vaccine_config
from service.settings import Settings
from tvaccine_core.errors import InvalidRequest


def made(settings: Settings, own: dict[str, Any], *request: Any) -> dict[str, Any]:
    return vaccine_config(settings.model_copy(update={"vaccine": own}), *request).to_dict()


def test_the_settings_hold_for_their_own_method(settings: Settings) -> None:
    own = {"method": "booster", "alpha": 0.2, "steps": 9}
    for request in ((), ("booster",), (None, {"method": "booster"})):
        found = made(settings, own, *request)
        assert (found["method"], found["alpha"], found["steps"]) == ("booster", 0.2, 9)
    assert made(settings, {"rho": 0.1}, "vaccine")["rho"] == 0.1


def test_another_method_takes_from_them_what_all_methods_share(settings: Settings) -> None:
    own = {"method": "booster", "alpha": 0.2, "steps": 9}
    for request in (("repnoise", {"beta": 0.5}), (None, {"method": "repnoise", "beta": 0.5})):
        found = made(settings, own, *request)
        assert (found["method"], found["alpha"], found["beta"], found["steps"]) == ("repnoise", 0.1, 0.5, 9)
        assert found["save_every"] == settings.save_every


def test_the_named_method_wins_over_that_of_the_overrides(settings: Settings) -> None:
    assert made(settings, {}, "tar", {"method": "sft", "inner_steps": 4})["method"] == "tar"


@pytest.mark.parametrize("request_", [("magic",), (None, {"method": "magic"}), ("sft", {"alpha": 1})])
def test_what_no_method_knows_is_named(settings: Settings, request_: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidRequest) as error:
        made(settings, {}, *request_)
    assert error.value.param in ("method", "alpha")
