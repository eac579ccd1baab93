"""The path of a fine-tuning job: screening, vaccinating, fine-tuning, scoring, perhaps a repair, releasing."""

from __future__ import annotations

from worker.desk import Desk
from worker.stages.fine_tuning import fine_tune
from worker.stages.releasing import conclude
from worker.stages.repairing import repair
from worker.stages.scoring import score
from worker.stages.screening import screen
from worker.stages.vaccinating import pinned_vaccine


def follow(desk: Desk) -> None:
    """Take the job to its end: released, repaired and released, or blocked in quarantine.

    Raises TVaccineError or Interruption.
    """
    training_file = screen(desk)
    vaccine = pinned_vaccine(desk)
    tuned = fine_tune(desk, training_file, vaccine)
    scored = score(desk, tuned, vaccine, training_file)
    if not scored.passed and desk.order.policy.get("repair"):
        tuned = repair(desk, tuned, vaccine, training_file)
        scored = score(desk, tuned, vaccine, training_file, before=scored)
    conclude(desk, tuned, scored)
