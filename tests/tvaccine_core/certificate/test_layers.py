import json
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.certificate.layers import layers_table


def table(tmp_path: Path, **report: Any) -> dict[str, Any] | None:
    (tmp_path / "report.json").write_text(json.dumps(report))
    return layers_table(tmp_path)


def test_probes_and_draws_are_counted_layer_by_layer(tmp_path: Path) -> None:
    probes = [{"step": 0, "p": [0.2, 0.5, 0.3]}, {"step": 10, "p": [0.4, 0.1, 0.5]}]
    draws = [{"step": 0, "selected": [1]}, {"step": 5, "selected": [1, 2]}, {"step": 10, "selected": [2]}]
    found = table(tmp_path, probes=probes, draws=draws)
    assert found is not None
    assert (found["unit"], found["probes"], found["draws"]) == ("share", 2, 3)
    assert [(one["layer"], one["first"], one["last"], one["drawn"]) for one in found["layers"]] == [
        (0, 0.2, 0.4, 0),
        (1, 0.5, 0.1, 2),
        (2, 0.3, 0.5, 2),
    ]
    assert [one["mean"] for one in found["layers"]] == pytest.approx([0.3, 0.3, 0.4])


def test_norms_are_preferred_where_the_run_noted_them(tmp_path: Path) -> None:
    found = table(tmp_path, probes=[{"step": 0, "p": [0.25, 0.75], "norms": [1.0, 3.0]}], draws=[])
    assert found is not None
    assert (found["unit"], [one["mean"] for one in found["layers"]]) == ("norm", [1.0, 3.0])


def test_draws_without_probes(tmp_path: Path) -> None:
    found = table(tmp_path, probes=[], draws=[{"step": 0, "selected": [0, 1]}])
    assert found is not None
    assert [(one["mean"], one["drawn"]) for one in found["layers"]] == [(None, 1), (None, 1)]


@pytest.mark.parametrize("report", [{}, {"probes": [], "draws": [{"step": 0, "selected": []}]}, {"attack_loss": 2.0}])
def test_a_method_that_draws_no_layers_has_no_table(tmp_path: Path, report: dict[str, Any]) -> None:
    assert table(tmp_path, **report) is None
