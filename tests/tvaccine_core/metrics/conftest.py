"""Fixtures: the shared data where the machine has it."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def shared_data() -> Path:
    """The folder of public data sets; skips where TVACCINE_DATA names none."""
    if "TVACCINE_DATA" not in os.environ:
        pytest.skip("TVACCINE_DATA names no public data sets")
    return Path(os.environ["TVACCINE_DATA"])
