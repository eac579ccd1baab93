"""Tables and pictures of results that were written by hand."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tvaccine_core.experiments.conftest import at, record
from tvaccine_core.experiments.figures import draw_figures, method_style
from tvaccine_core.experiments.plan_file import read_plan
from tvaccine_core.experiments.tables import write_tables

Results = Callable[..., Path]
PNG = b"\x89PNG\r\n\x1a\n"
METHODS = ("SFT", "T-Vaccine | ours")


@pytest.fixture
def folder(results: Results) -> Path:
    cells = []
    for seed in (0, 1):
        for place, method in enumerate(METHODS):
            for ratio in (0, 0.1, 0.2):
                where = at(method, ratio, seed)
                harmful = "1" * (round(20 * ratio) * (2 - place) + seed) + "0" * 10
                cells.append((where, record(where, harmful[:10], 9 - place)))
    lost = at("SFT", seed=2)
    return results([*cells, (lost, None)])


def test_the_markdown_table_tells_mean_and_interval_of_each_method_at_each_ratio(folder: Path) -> None:
    (markdown, *_) = write_tables(read_plan(folder), folder)
    text = markdown.read_text()
    assert "12 of 13 cells, 3 seed(s)" in text
    assert "In each of 6 attacks that several methods met" in text
    assert "| Method | benign | harmful_mixing 0.1 | harmful_mixing 0.2 |" in text
    # Seeds gave 40 % and 50 %: mean 45, reach 12.706 * 7.07 / sqrt(2) = 63.5.
    assert "| SFT | 5.0 [0.0, 68.5] | 45.0 [0.0, 100.0] | 85.0 [21.5, 100.0] |" in text
    assert "| T-Vaccine \\| ours | 5.0 [0.0, 68.5] | 25.0 [0.0, 88.5] |" in text
    for heading in ("### Accuracy", "### Other figures", "## Before the attack", "## Against SFT", "## Cost"):
        assert heading in text


def test_the_csv_files_hold_groups_and_cells(folder: Path) -> None:
    _, table, cells = write_tables(read_plan(folder), folder)
    rows = list(csv.DictReader(table.open()))
    found = {(r["method"], r["ratio"]): r for r in rows if r["figure"] == "harmful_score"}
    assert len(found) == 6
    assert (found["SFT", "0.2"]["mean"], found["SFT", "0.2"]["seeds"], found["SFT", "0.2"]["interval"]) == (
        "85.0",
        "2",
        "t",
    )
    paired = [row for row in rows if row["figure"] == "points_below_SFT"]
    assert len(paired) == 3
    assert float(paired[-1]["mean"]) == 40.0
    assert float(paired[-1]["p_value"]) == pytest.approx(1 / 2**8)
    single = list(csv.DictReader(cells.open()))
    assert [row["state"] for row in single].count("done") == 12
    assert single[-1]["state"] == "missing"
    assert single[0]["accuracy"] == "90.0"


def test_a_failed_cell_is_told(folder: Path) -> None:
    place = folder / "cells" / "12"
    (place / "failed.json").write_text('{"error": {"message": "The training loss stopped being a number."}}')
    markdown, _, cells = write_tables(read_plan(folder), folder)
    assert "- SFT / harmful_mixing / 0.1 / strong / sst2 / 2: The training loss stopped" in markdown.read_text()
    assert list(csv.DictReader(cells.open()))[-1]["state"] == "failed"


def test_an_empty_folder_has_tables_and_no_pictures(results: Results) -> None:
    out = results([(at("SFT"), None)])
    assert "0 of 1 cells" in write_tables(read_plan(out), out)[0].read_text()
    assert draw_figures(read_plan(out), out / "figures") == []


def test_the_pictures_are_drawn(folder: Path) -> None:
    files = draw_figures(read_plan(folder), folder / "figures")
    assert {path.name for path in files} == {
        "harmful-by-ratio-harmful_mixing-strong_sst2.png",
        "harmful-by-accuracy-harmful_mixing-strong_sst2.png",
        "costs.png",
    }
    assert all(path.read_bytes().startswith(PNG) for path in files)


def test_a_picture_shows_what_the_cells_hold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    drawn = []
    draw = Axes.errorbar

    def watch(axes: Axes, places: object, means: object, **how: object) -> object:
        drawn.append((how["label"], means))
        return draw(axes, places, means, **how)

    monkeypatch.setattr(Axes, "errorbar", watch)
    draw_figures(read_plan(folder), folder / "figures")
    assert drawn[:2] == [("SFT", [5.0, 45.0, 85.0]), ("T-Vaccine | ours", [5.0, 25.0, 45.0])]


def test_a_task_without_accuracy_has_no_such_picture(results: Results) -> None:
    where = at("SFT")
    out = results([(where, record(where, "10", None))])
    names = {path.name for path in draw_figures(read_plan(out), out / "figures")}
    assert names == {"costs.png"}
    assert "### Accuracy" not in write_tables(read_plan(out), out)[0].read_text()


def test_methods_can_be_told_apart() -> None:
    assert len({repr(method_style(place)) for place in range(24)}) == 24
