"""Seconds and peak memory of a part of a run, whatever ran before it."""

import time
from pathlib import Path

import pytest
import torch

from tvaccine_core.experiments import cost
from tvaccine_core.experiments.version import code_version, surroundings


def test_the_peak_is_that_of_the_part_and_not_of_what_was_before() -> None:
    held = torch.ones(60_000_000)
    with cost.measured("cpu") as high:
        more = torch.ones(60_000_000)
        time.sleep(0.02)
    del held, more
    with cost.measured("cpu") as low:
        small = torch.ones(1000)
    assert high.seconds >= 0.02
    assert high.peak_memory["resident"] - low.peak_memory["resident"] > 3e8
    assert small.sum() == 1000
    assert set(high.to_dict()) == {"seconds", "peak_memory"}


def test_where_the_mark_cannot_be_set_back_the_peak_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cost, "_MARK", tmp_path / "no" / "such" / "file")
    with cost.measured("cpu") as found:
        pass
    assert list(found.peak_memory) == ["resident_since_start"]
    assert found.peak_memory["resident_since_start"] > 10**7


def test_a_part_that_fails_is_measured_too() -> None:
    with pytest.raises(ValueError, match="no"), cost.measured("cpu") as found:
        raise ValueError("no")
    assert found.peak_memory


def test_the_code_has_a_version() -> None:
    assert code_version() not in ("", "unknown")
    assert surroundings()["libraries"]["torch"] == torch.__version__.split("+")[0] or "+" in torch.__version__
