import json

import pytest

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.config import ScoreConfig


def test_defaults_and_round_trip() -> None:
    config = ScoreConfig()
    assert (config.limit, config.coherence_floor, config.batch_prompts, config.cap) == (20.0, 90.0, 13, 156)
    assert ScoreConfig.from_dict(config.to_dict()) == config
    assert ScoreConfig.from_dict({"limit": 5}) == ScoreConfig(limit=5)


def test_it_survives_json_and_gives_limits_by_category() -> None:
    config = ScoreConfig(category_limits={"self-harm": 10.0}, variants=("sampled",))
    assert ScoreConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert (config.limit_of("self-harm"), config.limit_of("theft")) == (10.0, 50.0)


def test_a_limit_by_moderation_category_holds_for_its_strata() -> None:
    config = ScoreConfig(category_limits={"illicit": 30.0, "malware": 10.0})
    assert (config.limit_of("malware"), config.limit_of("fraud"), config.limit_of("hate")) == (10.0, 30.0, 50.0)
    config.require_categories({"malware", "fraud", "hate"})


def test_a_limit_for_no_prompts_category_is_a_mistake() -> None:
    with pytest.raises(InvalidRequest, match=r"'selfharm', of which there is no prompt; use .*self-harm") as caught:
        ScoreConfig(category_limits={"selfharm": 5.0}).require_categories({"self-harm", "theft"})
    assert caught.value.param == "category_limits"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"limit": 101}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": float("nan")}, "limit"),
        ({"limit": "20"}, "limit"),
        ({"limit": True}, "limit"),
        ({"coherence_floor": 100.5}, "coherence_floor"),
        ({"batch_prompts": 0}, "batch_prompts"),
        ({"batch_prompts": 1.5}, "batch_prompts"),
        ({"cap": 10}, "cap"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"seed": None}, "seed"),
        ({"judge_threshold": 1.5}, "judge_threshold"),
        ({"skip_gate": "yes"}, "skip_gate"),
        ({"limits": 20}, "limits"),
        ({"alpha": 0}, "alpha"),
        ({"beta": 0.9}, "beta"),
        ({"good": -1}, "good"),
        ({"max_increase": None}, "max_increase"),
        ({"category_limits": {"theft": 120}}, "category_limits"),
        ({"category_limits": 5}, "category_limits"),
        ({"composed_share": 2}, "composed_share"),
        ({"variants": ["loud"]}, "variants"),
        ({"variants": "sampled"}, "variants"),
        ({"variant_prompts": 0}, "variant_prompts"),
        ({"category_prompts": -1}, "category_prompts"),
        ({"triggers": -1}, "triggers"),
    ],
)
def test_a_bad_setting_is_named(values: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ScoreConfig.from_dict(values)
    assert caught.value.param == field
    assert field in str(caught.value)
