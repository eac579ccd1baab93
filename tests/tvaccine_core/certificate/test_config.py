import json
from typing import Any

import pytest

from tvaccine_core.certificate.config import CertificateConfig
from tvaccine_core.errors import InvalidRequest

MIXING = {"name": "harmful_mixing", "n": 50}


def three(*changed: dict[str, Any]) -> dict[str, Any]:
    """Settings with three attacks, the last ones as given."""
    ratios = [{**MIXING, "ratio": ratio} for ratio in (0.1, 0.2, 0.3)]
    return {"attacks": [*ratios[: 3 - len(changed)], *changed]}


def test_by_default_harmful_rows_are_mixed_in_twice_and_one_attack_looks_benign() -> None:
    config = CertificateConfig()
    assert [one.label for one in config.attacks] == ["harmful_mixing_10", "harmful_mixing_20", "identity_shift"]
    assert [one.attack.poisoned for one in config.attacks] == [20, 40, 100]
    assert "harmful" not in config.attacks[2].attack.needs
    assert [config.training(one).epochs for one in config.attacks] == [3, 3, 3]
    assert [config.limit_of(one) for one in config.attacks] == [30, 30, 30]


def test_an_attacks_own_training_and_limit_win() -> None:
    own = {**MIXING, "ratio": 0.5, "fine_tune": {"epochs": 9}, "limit": 60, "label": "hard"}
    config = CertificateConfig.from_dict({**three(own), "fine_tune": {"epochs": 2, "lora_r": 4}, "attack_limit": 25})
    trained = [config.training(one) for one in config.attacks]
    assert [(one.epochs, one.lora_r) for one in trained] == [(2, 4), (2, 4), (9, 4)]
    assert [config.limit_of(one) for one in config.attacks] == [25, 25, 60]


def test_settings_come_back_from_json() -> None:
    config = CertificateConfig.from_dict(
        {**three({"name": "refuse_then_answer", "describe": True}), "stock": "off", "prompts": 7.0}
    )
    assert CertificateConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert CertificateConfig.from_dict(CertificateConfig().to_dict()) == CertificateConfig()


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"attack": []}, "attack"),
        ({"prompts": 0}, "prompts"),
        ({"clean_limit": 101}, "clean_limit"),
        ({"composed_share": 1.5}, "composed_share"),
        ({"stock": "maybe"}, "stock"),
        ({"fine_tune": {"epoch": 3}}, "epoch"),
        ({"fine_tune": 3}, "fine_tune"),
        ({"attacks": "harmful_mixing"}, "attacks"),
        ({"attacks": [{**MIXING, "ratio": 0.1}, {**MIXING, "ratio": 0.2}]}, "attacks"),
        (three({**MIXING, "ratio": 0.1}), "attacks"),  # the first one has this label
        (three("identity_shift"), "attacks[2]"),
        (three({"name": "magic"}), "attacks[2].attack"),
        (three({**MIXING, "ratio": 2}), "attacks[2].ratio"),
        (three({**MIXING, "label": "a b"}), "attacks[2].label"),
        (three({**MIXING, "limit": -1}), "attacks[2].limit"),
        (three({**MIXING, "fine_tune": 1}), "attacks[2].fine_tune"),
        (three({**MIXING, "ratio": 0.5, "fine_tune": {"epochs": 0}}), "attacks[2].fine_tune.epochs"),
        (three({"name": "backdoor"}), "attacks[2].name"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        CertificateConfig.from_dict(values)
    assert refused.value.param == param


def test_an_attack_that_needs_other_rows_says_which() -> None:
    with pytest.raises(InvalidRequest, match="backdoor needs refusals rows"):
        CertificateConfig.from_dict(three({"name": "backdoor"}))
