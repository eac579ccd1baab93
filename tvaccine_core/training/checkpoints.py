"""Checkpoint directories: which are complete, and which is the latest.

A checkpoint is complete when it holds the file COMPLETE, written after everything else in it is on disk. A
run that is killed while saving leaves one without, which nobody resumes from.
"""

from __future__ import annotations

import re
from pathlib import Path

from tvaccine_core.training.files import sync

COMPLETE = "COMPLETE"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_step(checkpoint: Path) -> int:
    """The step in the name checkpoint-N. Raises ValueError for another name."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint.name} is not named checkpoint-N.")
    return int(match.group(1))


def is_complete(checkpoint: Path) -> bool:
    """Whether the checkpoint was saved to its end."""
    return (checkpoint / COMPLETE).is_file()


def latest_checkpoint(directory: Path) -> Path | None:
    """The complete checkpoint of the highest step in `directory` (a run's `checkpoints/`), or None."""
    if not directory.is_dir():
        return None
    found = [path for path in directory.iterdir() if _NAME.fullmatch(path.name) and is_complete(path)]
    return max(found, key=checkpoint_step, default=None)


def open_checkpoint(checkpoint: Path) -> None:
    """Takes the mark of completeness away before anything in the directory is rewritten."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / COMPLETE).unlink(missing_ok=True)
    sync(checkpoint)


def seal_checkpoint(checkpoint: Path) -> None:
    """Syncs every file of the checkpoint to disk and then marks it complete."""
    for path in checkpoint.rglob("*"):
        sync(path)
    mark = checkpoint / COMPLETE
    mark.touch()
    sync(mark)
    sync(checkpoint)
    sync(checkpoint.parent)
