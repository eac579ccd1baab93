"""How a vaccine is made, by the request and the operator's settings."""

from typing import Any

import pytest

from service.configurations import check_configurations, fine_tune_defence, vaccine_config
from service.policies import POLICIES, PolicyName
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


def test_a_policy_holds_where_the_settings_do_not_say(settings: Settings) -> None:
    chosen = settings.model_copy(update={"policy": "t_vaccine_lisa"})
    vaccine, defences = vaccine_config(chosen).to_dict(), fine_tune_defence(chosen).to_list()
    assert (vaccine["method"], vaccine["steps"], vaccine["gamma"]) == ("t_vaccine", 48, 4)
    assert [(one["name"], one["rho"]) for one in defences] == [("lisa", 0.1)]
    found = made(chosen, {"steps": 9, "gamma": 2})
    assert (found["steps"], found["gamma"], found["draw_every"]) == (9, 2, 16)
    assert fine_tune_defence(chosen.model_copy(update={"defences": []})).to_list() == []


def test_another_method_than_the_policys_takes_what_all_methods_share(settings: Settings) -> None:
    chosen = settings.model_copy(update={"policy": "t_vaccine_lisa"})
    for found in (made(chosen, {"method": "booster"}), made(chosen, {}, "booster")):
        assert (found["method"], found["learning_rate"], found["steps"]) == ("booster", 2e-3, 48)
        assert "gamma" not in found
    assert made(settings, {})["method"] == "t_vaccine"
    assert fine_tune_defence(settings).to_list() == []


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_can_be_run(settings: Settings, name: PolicyName) -> None:
    chosen = settings.model_copy(update={"policy": name})
    check_configurations(chosen)
    assert vaccine_config(chosen).to_dict().items() >= POLICIES[name].vaccine.items()
    assert len(fine_tune_defence(chosen).to_list()) == len(POLICIES[name].defences)
