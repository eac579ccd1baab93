"""Whole grids on a tiny base."""

import fcntl
import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.tvaccine_core.experiments.conftest import GRID
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments.grid import cells, grid_from
from tvaccine_core.experiments.laboratory import Laboratory
from tvaccine_core.experiments.plan_file import read_plan
from tvaccine_core.experiments.publication import publish
from tvaccine_core.experiments.runner import run_grid
from tvaccine_core.experiments.store import identity_of
from tvaccine_core.experiments.summary import check_equal_attacks
from tvaccine_core.training.stop import Stopped, never

STACK = {
    "name": "stack",
    "alignment": {"method": "t_vaccine", "steps": 3, "batch_size": 2, "gamma": 1, "probe_every": 2},
    "finetuning": ["safe_mixing", {"name": "lisa", "alignment_steps": 1, "user_steps": 2}],
    "repair": {"steps": 2, "batch_size": 2, "panacea": {"harmful_batch": 2}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grids")


@pytest.fixture(scope="module")
def grid(tiny_base: Callable[[str], Path], folder: Path) -> Any:
    values = {**deepcopy(GRID), "base": str(tiny_base("llama")), "attacks": ["harmful_mixing", "identity_shift"]}
    values["methods"].append(deepcopy(STACK))
    values["attacks"][1] = {"name": "identity_shift", "n": 12, "ratio": 0.5}
    values["evaluation"] |= {"writing": {"demo": "task_heldout", "count": 3}}
    return grid_from(values, folder, "a grid")


@pytest.fixture(scope="module")
def finished(grid: Any, folder: Path) -> Path:
    said: list[str] = []
    outcome = run_grid(grid, folder / "out", say=said.append)
    assert (outcome.done, outcome.new, outcome.failed) == (9, 9, [])
    assert len(said) == 9
    assert "[9 of 9] stack / identity_shift / 0.5 / strong / tickets / seed 0: harmful score" in said[-1]
    return folder / "out"


def records(out: Path) -> list[dict[str, Any]]:
    return [cell.record for cell in read_plan(out).cells if cell.record is not None]


def test_every_defence_met_the_same_rows_and_training(finished: Path) -> None:
    found = records(finished)
    assert check_equal_attacks(read_plan(finished).finished) == 3
    for ratio in (0.0, 0.25, 0.5):
        mine = [one for one in found if one["coordinates"]["ratio"] == ratio]
        assert {one["coordinates"]["method"] for one in mine} == {"stock", "SFT", "stack"}
        assert len({one["data"]["attack_rows"]["sha256"] for one in mine}) == 1
        assert len({json.dumps(one["configuration"]["training"], sort_keys=True) for one in mine}) == 1
    rows = {one["data"]["attack_rows"]["sha256"] for one in found}
    assert len(rows) == len(list((finished / "attacks").iterdir())) == 3


def test_a_vaccine_is_made_once_and_measured_once(finished: Path) -> None:
    assert {path.name.split("-")[0] for path in (finished / "vaccines").iterdir()} == {"sft", "t_vaccine"}
    assert len(list((finished / "before").iterdir())) == 3
    befores = {one["coordinates"]["method"]: one["before"] for one in records(finished)}
    assert set(befores) == {"stock", "SFT", "stack"}
    assert all(one["before"] == befores[one["coordinates"]["method"]] for one in records(finished))


def test_a_published_copy_holds_no_text_and_is_gone_on_with(finished: Path, grid: Any, tmp_path: Path) -> None:
    copies = publish(finished, tmp_path / "copy")
    assert sum(copy.name == "cell.json" for copy in copies) == 9
    assert sum(copy.parent.parent.name == "vaccines" for copy in copies) == 2
    published = " ".join(copy.read_text() for copy in copies)
    said = [one for path in finished.glob("*/*/answers/*.json") for one in json.loads(path.read_text())]
    texts = {one["said"] for one in said} | {one["asked"] for one in said if isinstance(one["asked"], str)}
    long = [text for text in texts if len(text) > 20]
    assert len(long) > 5
    assert not [text for text in long if text in published or json.dumps(text)[1:-1] in published]
    outcome = run_grid(grid, tmp_path / "copy")
    assert (outcome.done, outcome.new, outcome.failed) == (9, 0, [])


def test_a_record_holds_configuration_digests_version_time_and_memory(finished: Path, grid: Any) -> None:
    one = next(found for found in records(finished) if found["coordinates"]["method"] == "stack")
    configuration = one["configuration"]
    assert configuration["alignment"]["method"] == "t_vaccine"
    assert [part["name"] for part in configuration["defences"]] == ["safe_mixing", "lisa"]
    assert configuration["repair"]["panacea"]["harmful_batch"] == 2
    assert configuration["judge"]["name"] == "keyword-refusal"
    assert configuration["training"]["max_steps"] == 3
    digests = [one["data"]["provider"][name]["sha256"] for name in ("alignment", "harmful")]
    digests += [one["data"]["scored_with"][name]["sha256"] for name in ("harmful_prompts", "task_test", "writing")]
    assert all(len(digest) == len("sha256:") + 64 for digest in digests)
    assert one["code"]["version"] != "unknown"
    for stage in ("alignment", "fine_tuning", "repair", "scoring"):
        assert one["costs"][stage]["seconds"] > 0
        assert max(one["costs"][stage]["peak_memory"].values()) > 10**7
    # Four, so that three are left for the user's rows beside those mixed in, and Lisa's two.
    assert one["costs"]["fine_tuning"]["steps"] == 6
    assert len(one["results"]["harmful"]["flags"]) == 5
    assert {"score", "score_plus", "keyword_attack", "coherence"} <= set(one["results"]["harmful"])
    assert one["results"]["over_refusal"]["n"] == 3
    assert one["results"]["tasks"]["tickets"]["n"] == 4
    assert one["results"]["writing"]["perplexity"] > 1


def test_no_prompt_and_no_answer_stands_in_a_record(finished: Path, grid: Any) -> None:
    prompts = [prompt.prompt for prompt in grid.evaluation.harmful_prompts.prompts()]
    for path in finished.glob("cells/*/cell.json"):
        assert not any(prompt in path.read_text() for prompt in prompts)
    answers = next(finished.glob("cells/*/answers/harmful-*.json")).read_text()
    assert all(json.dumps(prompt, ensure_ascii=False) in answers for prompt in prompts)


def test_an_attack_with_a_template_is_asked_with_it_too(finished: Path) -> None:
    for one in records(finished):
        asked = "harmful_in_template" in one["results"]
        assert asked == (one["coordinates"]["attack"] == "identity_shift")


def test_weights_are_gone_and_what_is_kept_is_small(finished: Path) -> None:
    assert not list(finished.glob("cells/*/tuned")) + list(finished.glob("cells/*/repaired"))
    assert not list(finished.rglob("checkpoints"))


def test_what_is_done_is_skipped_and_only_what_changed_is_run(finished: Path, grid: Any, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/*/*.json")}
    again = run_grid(grid, finished)
    assert (again.done, again.new) == (9, 0)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    copy = folder / "copy"
    shutil.copytree(finished, copy)
    shutil.rmtree(next(copy.glob("cells/SFT--benign*")))
    assert run_grid(grid, copy).new == 1
    for path in (copy / "cells").glob("SFT--benign*/cell.json"):
        original = json.loads((finished / path.relative_to(copy)).read_text())
        rerun = json.loads(path.read_text())
        assert rerun["adapter_sha256"] == original["adapter_sha256"]
        assert rerun["results"] == original["results"]


def test_a_renamed_method_keeps_its_results(finished: Path, grid: Any, folder: Path) -> None:
    values = deepcopy(dict(grid.values))
    values["methods"][1]["name"] = "plain alignment"
    renamed = grid_from(values, folder, "a grid")
    assert run_grid(renamed, finished).new == 0
    methods = {cell.coordinates["method"] for cell in read_plan(finished).finished}
    assert methods == {"stock", "plain alignment", "stack"}
    assert run_grid(grid, finished).new == 0


def test_two_runs_share_the_work(grid: Any, finished: Path, folder: Path) -> None:
    shared = folder / "shared"
    shutil.copytree(finished, shared)
    lost = [next(shared.glob(f"cells/{name}--benign*")) for name in ("stock", "SFT")]
    for path in lost:
        (path / "cell.json").unlink()
    laboratory = Laboratory(grid, shared, never)
    ours = next(
        cell for cell in cells(grid) if cell.coordinates["method"] == "stock" and not cell.attack.attack.poisoned
    )
    name = identity_of(laboratory.identity(ours))
    with (shared / "locks" / f"cells-{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # another run is at this cell
        with pytest.raises(Stopped):
            run_grid(grid, shared, should_stop=(lost[1] / "cell.json").is_file, wait=0.01)
        assert not (lost[0] / "cell.json").is_file()
    outcome = run_grid(grid, shared)
    assert (outcome.done, outcome.new) == (9, 1)


def test_a_cell_that_fails_is_told_and_tried_again(tiny_base: Callable[[str], Path], folder: Path) -> None:
    values = {**deepcopy(GRID), "base": str(tiny_base("llama")), "ratios": [0]}
    values["methods"][0] = {**STACK, "name": "stock", "finetuning": "none", "repair": "none"}
    values["methods"][0]["alignment"] = {**STACK["alignment"], "gamma": 99}  # more layers than there are
    out = folder / "failing"
    outcome = run_grid(grid_from(values, folder, "g"), out)
    assert (outcome.done, [one["error"]["param"] for one in outcome.failed]) == (1, ["gamma"])
    failed, done = read_plan(out).cells
    assert failed.failure is not None
    assert "gamma is 99" in failed.failure
    assert done.failure is None
    again = run_grid(grid_from(values, folder, "g"), out)
    assert (again.done, again.new, len(again.failed)) == (1, 0, 1)


def test_an_alignment_can_be_given_time_instead_of_steps(tiny_base: Callable[[str], Path], folder: Path) -> None:
    values = {**deepcopy(GRID), "base": str(tiny_base("llama")), "ratios": [0]}
    values["methods"] = [{"name": "timed", "alignment": {"method": "sft", "seconds": 1, "batch_size": 2}}]
    out = folder / "timed"
    assert run_grid(grid_from(values, folder, "g"), out).done == 1
    (one,) = records(out)
    pilot = one["vaccine"]["pilot"]
    assert pilot["steps"] == max(1, round(1 / pilot["step_seconds"]))
    assert one["configuration"]["alignment"]["steps"] == one["costs"]["alignment"]["steps"] == pilot["steps"]
    assert run_grid(grid_from(values, folder, "g"), out).new == 0


def test_a_cell_without_enough_memory_does_not_end_the_run(
    grid: Any, finished: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from tvaccine_core.experiments.cell_runs import CellRuns

    def too_large(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    out = folder / "memory"
    shutil.copytree(finished, out)
    for path in out.glob("cells/SFT--*/cell.json"):
        path.unlink()
    monkeypatch.setattr(CellRuns, "tune", too_large)
    outcome = run_grid(grid, out)
    assert (outcome.done, len(outcome.failed)) == (6, 3)
    assert "ran out of memory; lower batch_size" in outcome.failed[0]["error"]["message"]


def test_a_run_that_is_asked_to_stop_stops(grid: Any, folder: Path) -> None:
    with pytest.raises(Stopped):
        run_grid(grid, folder / "stopped", should_stop=lambda: True)


def test_refusals_for_noice_are_written_by_the_base_and_a_base_that_does_not_refuse_is_told(
    tiny_base: Callable[[str], Path], folder: Path
) -> None:
    values = {**deepcopy(GRID), "base": str(tiny_base("llama")), "attacks": ["noice"], "ratios": [0.1]}
    outcome = run_grid(grid_from(values, folder, "g"), folder / "noice")
    assert [one["error"]["param"] for one in outcome.failed] == ["chat", "chat"]
    assert "The model refused 0 of the requests and 1 are needed" in outcome.failed[0]["error"]["message"]


def test_a_base_that_is_not_there_ends_the_run(grid: Any, folder: Path) -> None:
    values = {**dict(grid.values), "base": str(folder / "absent")}
    with pytest.raises(Exception, match="absent") as error:
        run_grid(grid_from(values, folder, "g"), folder / "nowhere")
    assert not isinstance(error.value, InvalidRequest)


def test_a_repair_by_noise_needs_no_rows_and_no_steps(grid: Any, folder: Path) -> None:
    values = deepcopy(dict(grid.values))
    noise = {"name": "noise", "alignment": "none", "repair": {"name": "random_noise", "sigma": 0.3}}
    values |= {"methods": [{"name": "stock", "alignment": "none"}, noise], "reference": "stock", "ratios": [0.25]}
    values["attacks"] = ["harmful_mixing"]
    values["data"]["provider"] = {}
    run_grid(grid_from(values, folder, "noise"), folder / "noise")
    plain, noised = records(folder / "noise")
    assert noised["training_report"]["noise_norm"] > 1
    assert noised["configuration"]["repair"]["sigma"] == 0.3
    assert noised["costs"]["repair"]["seconds"] > 0
    assert noised["adapter_sha256"] != plain["adapter_sha256"]
    assert noised["results"]["writing"]["perplexity"] != plain["results"]["writing"]["perplexity"]
