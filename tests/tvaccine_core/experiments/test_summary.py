"""Figures over seeds with their intervals, paired tests, and the check that methods met the same attack."""

from collections.abc import Callable
from math import sqrt
from pathlib import Path

import pytest
from scipy.stats import t as student

from tests.tvaccine_core.experiments.conftest import at, emergent, record
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.evaluation.intervals import wilson
from tvaccine_core.experiments.columns import COLUMNS, Value
from tvaccine_core.experiments.plan_file import read_plan
from tvaccine_core.experiments.summary import check_equal_attacks, compare, estimate, groups

Results = Callable[..., Path]


def test_one_seed_has_wilsons_interval_and_several_have_students() -> None:
    alone = estimate([Value(30.0, 3, 10)], percent=True)
    assert alone is not None
    low, high = wilson(3, 10)
    assert (alone.mean, alone.low, alone.high, alone.interval) == (30.0, 100 * low, 100 * high, "wilson")
    three = estimate([Value(30.0, 3, 10), Value(40.0, 4, 10), Value(20.0, 2, 10)], percent=True)
    assert three is not None
    reach = student.ppf(0.975, 2) * 10.0 / sqrt(3)
    assert three.low == pytest.approx(30.0 - reach)
    assert three.high == pytest.approx(30.0 + reach)
    assert (three.seeds, three.interval) == (3, "t")


def test_intervals_of_percentages_end_at_0_and_100_and_others_do_not() -> None:
    cut = estimate([Value(1.0), Value(9.0)], percent=True)
    free = estimate([Value(1.0), Value(9.0)])
    assert cut is not None
    assert free is not None
    assert (cut.low, free.low) == (0.0, pytest.approx(5 - 4 * student.ppf(0.975, 1)))
    assert estimate([Value(7.0)]).interval == "none"  # type: ignore[union-attr]
    assert estimate([]) is None


def test_seeds_are_gathered_and_nothing_else(results: Results) -> None:
    places = [at("SFT", seed=seed, ratio=ratio) for seed in (0, 1) for ratio in (0, 0.1)]
    found = groups(read_plan(results([(p, record(p, "1100" if p["seed"] else "1000")) for p in places])))
    assert [(group.coordinate("ratio"), len(group.cells)) for group in found] == [(0, 2), (0.1, 2)]
    assert found[1].estimate("harmful_score").mean == 37.5  # type: ignore[union-attr]
    assert found[1].estimate("accuracy").mean == 80.0  # type: ignore[union-attr]
    assert found[1].estimate("visage") is None


def test_every_column_reads_what_a_cell_holds(results: Results) -> None:
    place = at("SFT")
    cell = record(place, "1100000000")
    cell["results"]["basin"] = {"visage": 61.0}
    cell["results"]["drift"] = {"total": 0.75, "layers": [0.25, 0.5], "tokens": 9}
    cell["results"]["emergent"] = cell["before"]["emergent"] = emergent(2, 5)
    cell["results"]["harmful_in_template"] = cell["results"]["harmful"]
    cell["costs"]["repair"] = {**cell["costs"]["fine_tuning"], "step_seconds": None}
    read = {name: column.read(cell) for name, column in COLUMNS.items()}
    assert {name for name, value in read.items() if value is None} == set()
    numbers = {name: value.number for name, value in read.items() if value is not None}
    assert (numbers["harmful_score"], numbers["accuracy"], numbers["over_refusal"]) == (20.0, 80.0, 10.0)
    assert (numbers["perplexity"], numbers["visage"]) == (12.5, 61.0)
    assert (numbers["drift"], numbers["misaligned"], numbers["misaligned_of_all"]) == (0.75, 40.0, 20.0)
    assert (numbers["rated_coherent"], numbers["rated_code"], numbers["unrated"]) == (60.0, 10.0, 30.0)
    assert COLUMNS["misaligned"].read(cell) == Value(40.0, 2, 5)
    # Four steps of half a second; a run too short to tell counts with all its seconds.
    assert (numbers["alignment_seconds"], numbers["repair_seconds"], numbers["alignment_memory"]) == (2.0, 9.0, 2.0)


def test_no_rated_answer_is_no_rate() -> None:
    cell = record(at("SFT"), "10")
    cell["results"]["emergent"] = emergent(0, 0)
    assert COLUMNS["misaligned"].read(cell) is None
    assert COLUMNS["misaligned_of_all"].read(cell) == Value(0.0, 0, 10)


def test_a_task_with_free_answers_has_no_accuracy() -> None:
    assert COLUMNS["accuracy"].read(record(at("SFT"), "10", None)) is None


def test_methods_are_compared_on_the_same_prompts(results: Results) -> None:
    reference, better = at("SFT"), at("T-Vaccine")
    # On 10 prompts the reference alone is flagged, on 1 the other alone; "-" was not scored.
    flags = ("1" * 10 + "0" + "1" * 3 + "0" * 6 + "-", "0" * 10 + "1" + "1" * 3 + "0" * 7)
    out = results([(reference, record(reference, flags[0])), (better, record(better, flags[1]))])
    (one,) = compare(read_plan(out), groups(read_plan(out)))
    assert (one.key[0], one.prompts) == ("T-Vaccine", 20)
    assert one.gain == pytest.approx(45.0)
    assert one.low < 45 < one.high
    assert one.p_value == pytest.approx((11 + 1) / 2**11)


def test_methods_that_met_other_rows_or_other_training_are_not_compared(results: Results) -> None:
    one, two = at("SFT"), at("T-Vaccine")
    good = results([(one, record(one, "10")), (two, record(two, "10")), (at("X", seed=1), None)])
    assert check_equal_attacks(read_plan(good).finished) == 1
    with pytest.raises(InvalidRequest, match="SFT, T-Vaccine did not meet the same attack"):
        check_equal_attacks(
            read_plan(results([(one, record(one, "1")), (two, record(two, "1", rows="other"))])).finished
        )
    harder = record(two, "1")
    harder["configuration"]["training"]["max_steps"] = 4
    with pytest.raises(InvalidRequest, match="same attack"):
        check_equal_attacks(read_plan(results([(one, record(one, "1")), (two, harder)])).finished)


def test_a_folder_without_a_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"holds no plan\.json"):
        read_plan(tmp_path)
