"""The published results of grids: tables that follow from the cells, cells that say where they come from."""

import json
from pathlib import Path

import pytest

from tvaccine_core.experiments.choosing import write_sweep
from tvaccine_core.experiments.plan_file import read_plan
from tvaccine_core.experiments.tables import write_tables

RESULTS = Path(__file__).parents[2] / "docs" / "results"
GRIDS = sorted(path.parent for path in RESULTS.glob("*/plan.json"))


def test_there_are_results() -> None:
    assert GRIDS


@pytest.mark.parametrize("folder", GRIDS, ids=lambda folder: folder.name)
def test_tables_are_those_of_the_cells(folder: Path, tmp_path: Path) -> None:
    plan = read_plan(folder)
    assert plan.finished
    drawn = write_tables(plan, tmp_path)
    sweep = write_sweep(plan, tmp_path)
    for path in [*drawn, *([sweep] if sweep else [])]:
        assert path.read_text("utf-8") == (folder / path.name).read_text("utf-8"), path.name


@pytest.mark.parametrize("folder", GRIDS, ids=lambda folder: folder.name)
def test_cells_say_where_they_come_from_and_hold_no_text(folder: Path) -> None:
    for cell in read_plan(folder).finished:
        record = cell.record or {}
        assert record["configuration"]["training"]
        assert record["data"]["attack_rows"]["sha256"].startswith("sha256:")
        assert record["data"]["scored_with"]["harmful_prompts"]["n"] >= 80
        assert record["code"]["version"]
        assert "dirty" not in record["code"]["version"]
        words = json.dumps(record)
        assert not any(key in words for key in ('"answer"', '"said"', '"asked"', '"prompt"'))
    assert not [path for path in folder.rglob("*") if path.suffix in {".safetensors", ".jsonl"}]
