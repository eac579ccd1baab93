"""Tables and pictures of results that were written by hand."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tvaccine_core.experiments.conftest import at, emergent, record
from tvaccine_core.experiments.figures import draw_figures
from tvaccine_core.experiments.picture_style import method_styles
from tvaccine_core.experiments.plan_file import PlannedCell, PlannedGrid, read_plan
from tvaccine_core.experiments.tables import write_tables
from tvaccine_core.metrics.landscape.config import LandscapeConfig

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


def measured(place: dict[str, Any], height: float) -> dict[str, Any]:
    """A record with everything that a grid has to ask for. height: of its plane and its norms."""
    found = record(place, "1100")
    config = LandscapeConfig(steps=2, seeds=(1, 2), score="harmful_score")
    scores = [[height, height, height], [height, 0.0, height], [height, height, height]]
    plane = {"config": config.to_dict(), "directions": ["random:1", "random:2"], "alphas": list(config.alphas)}
    found["results"] |= {"plane": {**plane, "scores": scores}, "drift": {"total": height}, "emergent": emergent(1, 4)}
    found["before"] |= {"gradient_norms": {"layers": [height, 2 * height], "rows": 3}, "emergent": emergent(0, 4)}
    return found


def test_figures_that_a_grid_asks_for_stand_in_the_tables(results: Results, folder: Path) -> None:
    plain = write_tables(read_plan(folder), folder)[0].read_text()
    assert not [word for word in ("Drift", "Misaligned", "Unrated") if word in plain]
    out = results([(at("SFT"), measured(at("SFT"), 2.5))])
    markdown, table, _ = write_tables(read_plan(out), out)
    text = markdown.read_text()
    assert "| Drift | Misaligned | Misaligned of all |" in text
    assert "| 2.50 | 25.0 [4.6, 69.9] | 10.0 [1.8, 40.4] |" in text
    assert "| Perplexity before | Misaligned before |" in text
    rows = {row["figure"]: row for row in csv.DictReader(table.open())}
    assert (rows["drift"]["mean"], rows["unrated"]["mean"]) == ("2.5", "30.0")


def test_each_models_plane_and_all_models_norms_are_drawn(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    lines, planes = [], []
    plot, mesh = Axes.plot, Axes.pcolormesh

    def watch(axes: Axes, *places: Any, **how: Any) -> Any:
        lines.append((how.get("label"), places[-1]))
        return plot(axes, *places, **how)

    def watch_plane(axes: Axes, x: Any, y: Any, scores: Any, **how: Any) -> Any:
        if isinstance(scores, list):  # the colour bar is a mesh too
            planes.append((axes.figure.get_suptitle(), scores[0][0]))
        return mesh(axes, x, y, scores, **how)

    monkeypatch.setattr(Axes, "plot", watch)
    monkeypatch.setattr(Axes, "pcolormesh", watch_plane)
    ours, lisa = at(METHODS[1]), at("ours + Lisa")
    note = {"vaccine": {"folder": "t_vaccine-s0-1"}}
    cells = [(at("SFT"), measured(at("SFT"), 60.0)), (ours, measured(ours, 20.0) | note)]
    out = results([*cells, (lisa, measured(lisa, 40.0) | note)])
    files = {path.name: path for path in draw_figures(read_plan(out), out / "figures")}
    assert planes == [
        ("Safety plane of SFT: harmful_mixing 0.1 (strong, sst2)", 60.0),
        ("Safety plane of T-Vaccine | ours: harmful_mixing 0.1 (strong, sst2)", 20.0),
        ("Safety plane of ours + Lisa: harmful_mixing 0.1 (strong, sst2)", 40.0),
    ]
    assert {name for name in files if name.startswith("plane")} == {
        f"plane-harmful_mixing-strong_sst2-{name}.png" for name in ("SFT", "T-Vaccine_ours", "ours_+_Lisa")
    }
    # Two methods that start from one vaccine are one line.
    assert [line for line in lines if line[0]] == [("SFT", [60.0, 120.0]), (METHODS[1], [20.0, 40.0])]
    assert files["gradient-norms.png"].read_bytes().startswith(PNG)


def test_a_task_without_accuracy_has_no_such_picture(results: Results) -> None:
    where = at("SFT")
    out = results([(where, record(where, "10", None))])
    names = {path.name for path in draw_figures(read_plan(out), out / "figures")}
    assert names == {"costs.png"}
    assert "### Accuracy" not in write_tables(read_plan(out), out)[0].read_text()


def plan_of(methods: list[tuple[str, str]]) -> PlannedGrid:
    """A plan with nothing done. methods: names and families."""
    cells = [PlannedCell({"method": name}, family, {}, Path(name), None, None) for name, family in methods]
    return PlannedGrid("plan", methods[0][0], None, tuple(cells))


def test_methods_look_different_in_pictures_and_trials_of_one_method_share_its_colour() -> None:
    alone = method_styles(plan_of([(f"method {place}", f"method {place}") for place in range(24)]))
    assert len({repr(style) for style in alone.values()}) == 24

    trials = method_styles(plan_of([(f"{family} #{n}", family) for family in "ABCDEFGH" for n in range(1, 5)]))
    assert len({(style["color"], style["mfc"], style["marker"]) for style in trials.values()}) == 32
    for family in "ABCDEFGH":
        assert len({(trials[f"{family} #{n}"]["color"], trials[f"{family} #{n}"]["mfc"]) for n in range(1, 5)}) == 1
