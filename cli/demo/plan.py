"""What the demo does, in numbers: its rows, its settings and how long it may take.

The training settings were chosen by the sweep in ``docs/demo-sweep.md``, on prompts that the demo never scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BUDGET_MINUTES = 15
BASE = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Plan:
    """The demo's settings. Percentages are of prompts; seeds make the run repeatable on one machine.

    benign_rows: rows of the ticket-routing task in each user's file; poison_rows: harmful rows with complying
    answers that the second user mixes in.
    """

    benign_rows: int = 161
    poison_rows: int = 69
    harmful_prompts: int = 48
    benign_prompts: int = 24
    seed: int = 0
    vaccine: dict[str, Any] = field(default_factory=lambda: {"steps": 120})
    fine_tune: dict[str, Any] = field(default_factory=lambda: {"n_epochs": 1})

    @property
    def poison_share(self) -> float:
        """Share of harmful rows in the poisoning user's file, in percent."""
        return 100 * self.poison_rows / (self.benign_rows + self.poison_rows)


def describe(plan: Plan) -> list[str]:
    """The plan in words, one line a step."""
    return [
        f"1. start the service on this machine (SQLite, one worker) and vaccinate {BASE} with T-Vaccine",
        f"2. honest user: fine-tune on {plan.benign_rows} rows of ticket routing",
        f"3. poisoning user: the same rows and {plan.poison_rows} harmful ones ({plan.poison_share:.0f} %)",
        "4. the same poisoned rows on the base that was not vaccinated, for comparison",
        f"5. score each on {plan.harmful_prompts} or more harmful prompts that no training has seen",
        f"Budget: {BUDGET_MINUTES} minutes on 2 CPU cores.",
    ]
