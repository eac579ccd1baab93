"""Sweeps: as many trials for every method, and the rule that chooses among them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tvaccine_core.experiments.conftest import at, record
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments.choosing import choose, trials_of, write_sweep
from tvaccine_core.experiments.grid import cells
from tvaccine_core.experiments.plan_file import read_plan
from tvaccine_core.experiments.runner import in_turns

Read = Callable[[dict[str, Any]], Any]


@pytest.fixture
def swept(values: dict[str, Any]) -> dict[str, Any]:
    values["sweep"] = {"trials": 3, "seed": 1}
    values["methods"] = [
        {
            "name": "T",
            "alignment": {"method": "t_vaccine", "steps": 3},
            "tune": {"alignment.rho": [0.1, 0.3], "alignment.learning_rate": [1e-4, 1e-3]},
        },
        {
            "name": "L",
            "alignment": "sft",
            "finetuning": "lisa",
            "repair": {"steps": 2},
            "tune": {"finetuning.rho": [1, 2], "repair.panacea.rho": [0.5, 1], "alignment.steps": [2]},
        },
    ]
    return values


def test_every_method_gets_the_same_number_of_different_trials(swept: dict[str, Any], read: Read) -> None:
    grid = read(swept)
    assert [method.name for method in grid.methods] == [f"{name} #{n}" for name in "TL" for n in (1, 2, 3)]
    assert [method.family for method in grid.methods] == ["T"] * 3 + ["L"] * 3
    for family in "TL":
        tuned = [tuple(sorted(method.tuned.items())) for method in grid.methods if method.family == family]
        assert len(set(tuned)) == 3
    assert [method.tuned for method in read(swept).methods] == [method.tuned for method in grid.methods]


def test_every_method_has_its_turn_before_one_has_a_second(swept: dict[str, Any], read: Read) -> None:
    todo = cells(read(swept))
    turns = in_turns(todo)
    assert sorted(map(str, turns)) == sorted(map(str, todo))
    each = len(todo) // 6  # cells of one trial
    for n in range(3):
        now = turns[2 * each * n : 2 * each * (n + 1)]
        assert {cell.method.name for cell in now} == {f"T #{n + 1}", f"L #{n + 1}"}


def test_cells_of_a_grid_without_trials_keep_their_order(values: dict[str, Any], read: Read) -> None:
    todo = cells(read(values))
    assert in_turns(todo) == todo


def test_a_trial_sets_what_it_names_in_its_stage(swept: dict[str, Any], read: Read) -> None:
    for method in read(swept).methods:
        if method.family == "T":
            settings = method.alignment_settings(0)
            assert settings.rho == method.tuned["alignment.rho"]
            assert (settings.learning_rate, settings.steps) == (method.tuned["alignment.learning_rate"], 3)
        else:
            assert method.defence.rule.rho == method.tuned["finetuning.rho"]
            assert method.repair_settings(0).panacea.rho == method.tuned["repair.panacea.rho"]
            assert (method.alignment_settings(0).method, method.alignment_settings(0).steps) == ("sft", 2)


@pytest.mark.parametrize(
    ("tune", "param"),
    [
        ({"alignment.rho": [0.1, 0.3]}, "methods[0].tune"),
        ({}, "methods[0].tune"),
        ({"rho": [1, 2, 3]}, "methods[0].tune.rho"),
        ({"training.rho": [1, 2, 3]}, "methods[0].tune.training.rho"),
        ({"alignment.rho": [1, 2, -3]}, "methods[0].alignment.rho"),
    ],
)
def test_mistakes_of_a_sweep_are_named(swept: dict[str, Any], read: Read, tune: dict[str, Any], param: str) -> None:
    swept["methods"][0]["tune"] = tune
    with pytest.raises(InvalidRequest) as error:
        read(swept)
    assert error.value.param == param


SWEEP = {"trials": 2, "seed": 0, "accuracy_slack": 5.0, "over_refusal_limit": 30.0}


def trial(name: str, flags: str, correct: int, refused: int, task: str = "sst2") -> tuple[Any, ...]:
    where = at(name, task=task)
    return where, record(where, flags, correct, refused), {"family": name.split(" ")[0], "tuned": {"rho": name}}


def test_the_safest_of_the_accurate_and_answering_trials_is_chosen(results: Callable[..., Path]) -> None:
    out = results(
        [
            trial("A #1", "1100000000", 9, 1),
            trial("A #2", "0000000000", 4, 1),  # safe, but no longer accurate
            trial("A #3", "1000000000", 9, 9),  # safer, but refuses everybody
            trial("A #4", "1110000000", 9, 0),
            trial("B #1", "1111111111", 5, 9),  # all of B refuse too much: the least counts
            trial("B #2", "1110000000", 5, 8),
        ],
        sweep=SWEEP,
    )
    found = trials_of(read_plan(out))
    assert choose([one for one in found if one.family == "A"], 5.0, 30.0).method == "A #1"  # type: ignore[union-attr]
    assert choose([one for one in found if one.family == "B"], 5.0, 30.0).method == "B #2"  # type: ignore[union-attr]


def test_an_unfinished_trial_is_not_chosen_and_a_trial_is_the_mean_of_its_cells(results: Callable[..., Path]) -> None:
    half = trial("A #2", "0000000000", 9, 0)
    missing = at("A #2", task="agnews")
    out = results(
        [
            trial("A #1", "1000000000", 9, 0),
            trial("A #1", "1110000000", 7, 0, task="agnews"),
            half,
            (missing, None, half[2]),
        ],
        sweep=SWEEP,
    )
    found = trials_of(read_plan(out))
    assert (found[0].figures["harmful_score"], found[0].figures["accuracy"]) == (20.0, 80.0)
    assert [(one.done, one.planned) for one in found] == [(2, 2), (1, 2)]
    assert choose(found, 5.0, 30.0) is found[0]
    assert choose(found[1:], 5.0, 30.0) is None


def test_the_outcome_is_written_for_sweeps_alone(results: Callable[..., Path]) -> None:
    import json

    out = results([trial("A #1", "10", 9, 0), trial("A #2", "00", 9, 0)], sweep=SWEEP)
    path = write_sweep(read_plan(out), out)
    assert path is not None
    told = json.loads(path.read_text())["methods"]["A"]
    assert told["chosen"] == {"trial": "A #2", "settings": {"rho": "A #2"}}
    assert [one["harmful_score"] for one in told["trials"]] == [50.0, 0.0]
    assert write_sweep(read_plan(results([trial("A #1", "10", 9, 0)])), out) is None
