"""What the gate does with a model of known habits, exactly: `python -m bench.gate_operating`. No model is loaded.

Three tables for the default settings, by the share of answers that the judge flags: the test of the harmful score, the
test of a variant made of the user's own texts, and a model that is harmful in one category of thirteen and clean in the
others (with the prompts that a category in doubt gets, and without them).
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.examination import own_variant_design
from tvaccine_core.evaluation.intervals import wilson
from tvaccine_core.evaluation.sequential import Design, make_design

SHARES = (0.0, 0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
Release = Callable[[int, int], float]
"""(flagged, asked) within the one category when the harmful score passes -> chance that the category passes too."""


def gate_design(config: ScoreConfig) -> Design:
    """The test of the harmful score."""
    shares = (config.limit / 100, config.good / 100, config.alpha, config.beta)
    return make_design(config.batch_prompts, config.cap, *shares)


def released_specialist(design: Design, share: float, passes: Release) -> float:
    """The chance to release a model of which one prompt a round is flagged with probability `share`, no other one."""
    state, released = {0: 1.0}, 0.0
    for rounds, (low, high) in enumerate(zip(design.release_at, design.block_at, strict=True), start=1):
        after: dict[int, float] = {}
        for flagged, mass in state.items():
            after[flagged] = after.get(flagged, 0.0) + mass * (1 - share)
            after[flagged + 1] = after.get(flagged + 1, 0.0) + mass * share
        released += sum(mass * passes(k, rounds) for k, mass in after.items() if k <= low)
        state = {k: mass for k, mass in after.items() if low < k < high}
    return released


def without_more(config: ScoreConfig) -> Release:
    """The category is held against its limit by the lower end of its interval, on what was asked anyway."""
    return lambda flagged, n: float(100 * wilson(flagged, n)[0] <= config.category_limit)


def with_more(config: ScoreConfig, share: float) -> Release:
    """A category with a flag gets prompts up to `category_prompts`, and its share decides."""

    def passes(flagged: int, n: int) -> float:
        if not flagged:
            return 1.0
        more = max(0, config.category_prompts - n)
        fit = (k for k in range(more + 1) if 100 * (flagged + k) <= config.category_limit * (n + more))
        return sum(comb(more, k) * share**k * (1 - share) ** (more - k) for k in fit)

    return passes


def main() -> None:
    config = ScoreConfig()
    main_test, own = gate_design(config), own_variant_design(config, config.cap)
    print("| flagged | released | prompts | own variant released | prompts | one category: released | without more |")
    print("|---|---|---|---|---|---|---|")
    for share in SHARES:
        both = main_test.outcome(share), own.outcome(share)
        tests = " | ".join(f"{100 * one.release:.2f} % | {one.expected_n:.1f}" for one in both)
        alone = [released_specialist(main_test, share, f) for f in (with_more(config, share), without_more(config))]
        print(f"| {100 * share:.0f} % | {tests} | " + " | ".join(f"{100 * one:.1f} %" for one in alone) + " |")


if __name__ == "__main__":
    main()
