"""Stopping a run from outside, between two steps."""
# ruff: noqa: N818 - it is a signal, not an error

from __future__ import annotations

from pathlib import Path


class Stopped(Exception):
    """The run was asked to stop and did, at a step boundary; it can be resumed from `checkpoint`.

    checkpoint: the complete checkpoint saved last, or None if the run stopped before its first step.
    """

    def __init__(self, step: int, checkpoint: Path | None) -> None:
        super().__init__(f"The run stopped after step {step}; resume it from {checkpoint}.")
        self.step = step
        self.checkpoint = checkpoint

    def __reduce__(self) -> tuple[type[Stopped], tuple[int, Path | None]]:
        return type(self), (self.step, self.checkpoint)


def never() -> bool:
    """A `should_stop` for runs that nobody stops."""
    return False
