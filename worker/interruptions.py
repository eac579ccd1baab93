"""Why work on a job ends before the job does. None of these is an error of the user's."""

from __future__ import annotations

from worker.supervisor import Ending


class Interruption(Exception):  # noqa: N818 - reasons, not errors
    """Base of all reasons to put a job down."""


class LeaseLost(Interruption):
    """Another worker may have the job: write nothing more about it."""


class CancelAsked(Interruption):
    """The user asked to cancel, and the trainer has stopped."""


class WorkerDrains(Interruption):
    """This worker shuts down; the job goes back to the queue."""


class Parked(Interruption):
    """The job waits for its vaccine without a worker, or could not because it is to be cancelled."""


class TrainerCrashed(Interruption):
    """The trainer ended by a signal or an unforeseen exception."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.words())
        self.ending = ending
