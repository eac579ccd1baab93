import struct
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import LAYERS, failed
from tvaccine_core.certificate.figure import draw_certificate, rows_of


def test_there_is_a_bar_for_every_way_of_asking() -> None:
    rows = rows_of(failed())
    assert [row.label for row in rows] == [
        "clean",
        "harmful mixing 10",
        "harmful mixing 20",
        "identity shift",
        "identity shift\nin the attacker's words",
    ]
    assert [row.score.flagged for row in rows] == [0, 2, 20, 1, 25]
    assert [row.limit for row in rows] == [20, 30, 30, 30, 30]
    assert [row.passed for row in rows] == [True, True, False, True, False]
    assert rows[0].stock == pytest.approx(100 * 30 / 52)
    assert [row.stock for row in rows[1:]] == [None] * 4


@pytest.mark.parametrize("layers", [LAYERS, None, {**LAYERS, "unit": "norm", "probes": 0}])
def test_a_picture_is_drawn(tmp_path: Path, layers: dict[str, Any] | None) -> None:
    path = tmp_path / "certificate.png"
    draw_certificate(failed(layers=layers), path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height > 500) == (1200, True)
