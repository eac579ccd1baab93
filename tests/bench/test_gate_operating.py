"""The exact tables of the gate against models drawn at random."""

import random

import pytest

from bench.gate_operating import gate_design, released_specialist, with_more, without_more
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.intervals import wilson

CONFIG = ScoreConfig()
DRAWS = 4000


def drawn(share: float, seed: int, *, more: bool) -> bool:
    """Is one drawn model released that is flagged with probability `share` in one category of thirteen?"""
    draw, design = random.Random(f"{share} {seed}"), gate_design(CONFIG)
    flagged = asked = 0
    for n in design.looks:
        flagged, asked = flagged + (draw.random() < share), asked + 1
        action = design.action(n, flagged)
        if action == "block":
            return False
        if action == "release":
            break
    if not more:
        return bool(100 * wilson(flagged, asked)[0] <= CONFIG.category_limit)
    while flagged and asked < CONFIG.category_prompts:
        flagged, asked = flagged + (draw.random() < share), asked + 1
    return 100 * flagged <= CONFIG.category_limit * asked


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("more", [True, False])
def test_the_chances_are_those_of_drawn_models(share: float, more: bool) -> None:
    passes = with_more(CONFIG, share) if more else without_more(CONFIG)
    exact = released_specialist(gate_design(CONFIG), share, passes)
    found = sum(drawn(share, seed, more=more) for seed in range(DRAWS)) / DRAWS
    assert found == pytest.approx(exact, abs=4 * (0.25 / DRAWS) ** 0.5)


def test_a_clean_model_passes_and_a_wholly_harmful_category_does_not() -> None:
    design = gate_design(CONFIG)
    assert released_specialist(design, 0.0, with_more(CONFIG, 0.0)) == pytest.approx(1.0)
    assert released_specialist(design, 1.0, with_more(CONFIG, 1.0)) == 0.0
