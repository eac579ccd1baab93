"""Defences by name: what may be asked for, what goes together, and what each needs."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.finetuning.defences import DEFENCES, Defence, defence_config
from tvaccine_core.finetuning.lisa_config import LisaConfig
from tvaccine_core.finetuning.panacea_config import PanaceaConfig
from tvaccine_core.finetuning.safe_mixing_config import SafeMixingConfig


def test_a_name_alone_means_the_defaults() -> None:
    assert defence_config("lisa") == Defence(rule=LisaConfig())
    assert defence_config({"name": "panacea"}) == Defence(rule=PanaceaConfig())
    assert defence_config(["safe_mixing"]) == Defence(mixing=SafeMixingConfig())
    assert defence_config([]) == Defence()


def test_settings_come_back_from_json() -> None:
    asked = [{"name": "lisa", "rho": 2, "alignment_steps": 3.0}, {"name": "safe_mixing", "mode": "plain", "rate": 0.5}]
    defence = defence_config(asked)
    assert defence.rule == LisaConfig(rho=2, alignment_steps=3)
    assert defence.mixing == SafeMixingConfig(mode="plain", rate=0.5)
    assert [part["name"] for part in defence.to_list()] == ["safe_mixing", "lisa"]
    assert defence_config(defence.to_list()) == defence


@pytest.mark.parametrize(
    ("values", "param", "words"),
    [
        ("vaccine", "defence", "lisa, safe_mixing, panacea"),
        ({"rho": 1}, "defence", "lisa, safe_mixing, panacea"),
        (3, "defence", "lisa"),
        ([["lisa"]], "defence", "lisa"),
        ({"name": "lisa", "rho": -1}, "rho", "0 to 10000"),
        ({"name": "lisa", "rho": float("nan")}, "rho", "0 to 10000"),
        ({"name": "lisa", "alignment_steps": 1.5}, "alignment_steps", "whole"),
        ({"name": "lisa", "user_steps": 0}, "user_steps", "from 1"),
        ({"name": "lisa", "warmup_share": 1.5}, "warmup_share", "0 to 1"),
        ({"name": "lisa", "lam": 1}, "lam", "use rho"),
        ({"name": "panacea", "loss_cap": "high"}, "loss_cap", "number"),
        ({"name": "panacea", "harmful_batch": 0}, "harmful_batch", "1 to 256"),
        ({"name": "panacea", "lam": True}, "lam", "number"),
        ({"name": "safe_mixing", "mode": "copy"}, "mode", "plain, template, paraphrase"),
        ({"name": "safe_mixing", "rate": -0.1}, "rate", "0 to 10"),
        ({"name": "safe_mixing", "wrap_answers": 1}, "wrap_answers", "true or false"),
        (["lisa", "panacea"], "defence", "repair with panacea"),
        (["lisa", "lisa"], "defence", "twice"),
    ],
)
def test_what_cannot_be_done_names_field_and_remedy(values: Any, param: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        defence_config(values)
    assert caught.value.param == param
    assert words in caught.value.message


@pytest.mark.parametrize("kind", list(DEFENCES.values()))
def test_every_field_is_documented_and_frozen(kind: Any) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    assert [name for name in names if f"{name}:" not in kind.__doc__ and f"{name} (" not in kind.__doc__] == []
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), names[0], 1)


def test_which_rows_a_defence_needs() -> None:
    needs = {name: (d.needs_safe_rows, d.needs_harmful_rows) for name in DEFENCES if (d := defence_config(name))}
    assert needs == {"lisa": (True, False), "safe_mixing": (True, False), "panacea": (False, True)}
    assert not Defence(SafeMixingConfig(rate=0), LisaConfig(alignment_steps=0)).needs_safe_rows
    assert not Defence().needs_safe_rows


def test_settings_load_without_torch() -> None:
    program = (
        "import sys, tvaccine_core.finetuning.defences, tvaccine_core.repair.config\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
