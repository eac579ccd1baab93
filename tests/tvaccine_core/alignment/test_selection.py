import json
import random
from collections import Counter

import pytest

from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.selection import LayerSchedule, draw_layers, probabilities
from tvaccine_core.errors import InvalidRequest


def test_probabilities_are_the_share_of_the_norms():
    assert probabilities([1.0, 3.0, 0.0]) == [0.25, 0.75, 0.0]
    for bad in ([0.0, 0.0], [1.0, float("nan")], [1.0, float("inf")]):
        with pytest.raises(ValueError, match="norms"):
            probabilities(bad)


@pytest.mark.parametrize("select", ["weighted", "topk", "uniform"])
def test_draws_gamma_distinct_layers(select):
    rng = random.Random(0)
    p = probabilities([5.0, 1.0, 4.0, 2.0, 3.0, 0.5])
    for gamma in range(1, 7):
        for _ in range(20):
            drawn = draw_layers(p, gamma, select, rng)
            assert len(set(drawn)) == gamma
            assert list(drawn) == sorted(drawn)
    assert draw_layers(p, 6, select, rng) == tuple(range(6))


def test_topk_takes_the_largest():
    assert draw_layers([0.1, 0.4, 0.2, 0.3], 2, "topk", random.Random(0)) == (1, 3)


def test_a_layer_without_probability_is_never_drawn():
    rng = random.Random(0)
    p = [0.5, 0.0, 0.3, 0.2]
    assert all(1 not in draw_layers(p, 2, "weighted", rng) for _ in range(300))
    assert draw_layers(p, 3, "weighted", rng) == (0, 2, 3)


@pytest.mark.parametrize("select", ["weighted", "topk"])
def test_too_few_layers_fail_loudly(select):
    with pytest.raises(InvalidRequest, match="gamma is 3, but only 2") as error:
        draw_layers([0.5, 0.0, 0.5], 3, select, random.Random(0))
    assert error.value.param == "gamma"
    with pytest.raises(InvalidRequest, match="the model has 4 layers"):
        LayerSchedule(TVaccineConfig(gamma=5), 4)
    LayerSchedule(TVaccineConfig(gamma=5, method="vaccine"), 4)


def test_draws_are_sequential_and_weighted():
    rng = random.Random(0)
    p = [0.6, 0.3, 0.1]
    counts = Counter(draw_layers(p, 2, "weighted", rng) for _ in range(20000))
    # P{i, j} = p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j)
    expected = {(i, j): p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j]) for i, j in [(0, 1), (0, 2), (1, 2)]}
    for pair, probability in expected.items():
        assert counts[pair] / 20000 == pytest.approx(probability, abs=0.015)


def test_probes_and_draws_of_the_published_run():
    schedule = LayerSchedule(TVaccineConfig(gamma=8, probe_every=200, draw_every=20, steps=4000), 32)
    assert schedule.probe_due(0)
    assert schedule.draw_due(0)
    assert sum(schedule.probe_due(step) for step in range(4000)) == 20
    assert sum(schedule.draw_due(step) for step in range(4000)) == 200


def test_vaccine_and_plain_training_draw_once_and_never_probe():
    for method, expected in (("vaccine", (0, 1, 2)), ("sft", ())):
        schedule = LayerSchedule(TVaccineConfig(method=method), 3)
        assert not schedule.probe_due(0)
        assert schedule.draw_due(0)
        assert schedule.draw() == expected
        assert not schedule.draw_due(20)


def test_state_carries_on_exactly():
    config = TVaccineConfig(gamma=3, seed=5)
    schedule, other = LayerSchedule(config, 10), LayerSchedule(config, 10)
    schedule.record_probe([float(i + 1) for i in range(10)])
    for _ in range(4):
        schedule.draw()
    other.restore(json.loads(json.dumps(schedule.state())))
    assert (other.p, other.selected) == (schedule.p, schedule.selected)
    assert [other.draw() for _ in range(20)] == [schedule.draw() for _ in range(20)]


def test_seeds_give_different_draws():
    draws = set()
    for seed in range(5):
        schedule = LayerSchedule(TVaccineConfig(gamma=3, seed=seed, select="uniform"), 30)
        draws.add(schedule.draw())
    assert len(draws) > 1
