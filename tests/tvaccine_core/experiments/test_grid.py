"""Grids: what a file may say, what it expands to, and what its mistakes are called."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.alignment.methods import METHODS
from tvaccine_core.attacks.registry import ATTACKS
from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments.grid import cells, read_grid
from tvaccine_core.experiments.grid_file import read_grid_file
from tvaccine_core.repair.noise_config import NoiseConfig

GRIDS = Path(__file__).parents[3] / "bench" / "grids"
Read = Callable[[dict[str, Any]], Any]


def change(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *outer, last = path.split(".")
    inner: Any = values
    for name in outer:
        inner = inner[int(name)] if name.isdigit() else inner[name]
    if value is None:
        del inner[last]
    else:
        inner[int(last) if last.isdigit() else last] = value
    return values


def test_methods_meet_every_attack_ratio_strength_task_and_seed(values: dict[str, Any], read: Read) -> None:
    values["ratios"] = [0, 0.1, 0.5]
    values["attacks"] = ["harmful_mixing", {"name": "explicit_harmful", "n": 6, "ratio": 1.0, "label": "explicit"}]
    values["strengths"]["weak"] = {"learning_rate": 1e-5, "epochs": 1}
    values["seeds"] = [3, 4]
    found = cells(read(values))
    assert len(found) == 2 * (3 + 1) * 2 * 2
    attacks = {(cell.attack.label, cell.attack.attack.ratio, cell.attack.attack.n) for cell in found}
    assert attacks == {
        ("benign", 0.0, 12), ("harmful_mixing", 0.1, 12), ("harmful_mixing", 0.5, 12), ("explicit", 1.0, 6),
    }  # fmt: skip
    # All that the attack trains with is the same for the methods.
    for cell in found:
        twin = next(other for other in found if other.coordinates == {**cell.coordinates, "method": "stock"})
        assert (twin.attack, twin.strength.config(twin.seed)) == (cell.attack, cell.strength.config(cell.seed))
    weak = next(cell for cell in found if cell.strength.name == "weak")
    config = weak.strength.config(4)
    assert (config.learning_rate, config.batch_size, config.epochs, config.max_steps, config.seed) == (
        1e-5,
        3,
        1,
        None,
        4,
    )


def test_combinations_are_left_out_for_all_methods_alike(values: dict[str, Any], read: Read) -> None:
    values["ratios"] = [0, 0.25, 0.5]
    values["strengths"]["weak"] = {"learning_rate": 1e-5, "epochs": 1}
    everything = cells(read(values))
    values["leave_out"] = [{"ratio": [0, 0.5], "strength": "weak"}, {"method": "stock", "ratio": 0.5}]
    kept = cells(read(values))
    gone = [
        cell.coordinates
        for cell in everything
        if (cell.strength.name == "weak" and cell.attack.attack.ratio != 0.25)
        or (cell.method.name == "stock" and cell.attack.attack.ratio == 0.5)
    ]
    assert 0 < len(gone) < len(everything)
    assert [cell.coordinates for cell in kept] == [c.coordinates for c in everything if c.coordinates not in gone]


def test_attacks_without_poison_are_one_benign_cell(values: dict[str, Any], read: Read) -> None:
    values["attacks"] = ["harmful_mixing", {"name": "identity_shift", "n": 6}, "refuse_then_answer"]
    values["ratios"] = [0, 0.01, 0.25]  # 1 % of 12 rows is none
    found = read(values).attacks
    assert [(plan.label, plan.attack.n, plan.attack.ratio) for plan in found if plan.label == "benign"] == [
        ("benign", 12, 0.0)
    ]
    assert len(found) == 4


def test_the_seed_of_a_cell_is_its_vaccines_unless_one_is_fixed(values: dict[str, Any], read: Read) -> None:
    values["methods"].append({"name": "fixed", "alignment": {"method": "sft", "steps": 2, "seed": 9}})
    stock, moving, fixed = read(values).methods
    assert stock.alignment_settings(5) is None
    assert (moving.alignment_settings(5).seed, fixed.alignment_settings(5).seed) == (5, 9)


def test_a_stack_names_what_it_opens(values: dict[str, Any], read: Read) -> None:
    values["methods"] = [
        {
            "name": "all",
            "alignment": "t_vaccine",
            "finetuning": ["safe_mixing", {"name": "lisa", "rho": 0.5}],
            "repair": {"steps": 3, "panacea": {"rho": 2}},
        },
        {"name": "plain", "alignment": "sft", "finetuning": "none", "repair": "panacea"},
        {"name": "panacea", "finetuning": "panacea"},
        {"name": "noise", "alignment": "sft", "repair": {"name": "random_noise", "sigma": 0.5}},
    ]
    stack, plain, panacea, noise = read(values).methods
    assert stack.needs == ("alignment", "harmful", "safe")
    assert [part["name"] for part in stack.defence.to_list()] == ["safe_mixing", "lisa"]
    assert (stack.repair_settings(7).seed, stack.repair_settings(7).panacea.rho) == (7, 2)
    assert plain.needs == ("alignment", "harmful")
    assert (panacea.needs, panacea.repair_settings(0)) == (("harmful",), None)
    assert (noise.needs, noise.repair_settings(7)) == (("alignment",), NoiseConfig(sigma=0.5, seed=7))


MISTAKES: list[tuple[str, Any, str]] = [
    ("title", 3, "title"),
    ("bse", "x", "bse"),
    ("base", None, "base"),
    ("max_length", 4, "max_length"),
    ("keep_adapters", "yes", "keep_adapters"),
    ("seeds", [0, 0], "seeds[1]"),
    ("seeds", [], "seeds"),
    ("seeds", [-1], "seeds[0]"),
    ("ratios", [0.1, 2], "ratios"),
    ("ratios", ["many"], "ratios"),
    ("rows", 0, "rows"),
    ("reference", "other", "reference"),
    ("leave_out", [{}], "leave_out[0]"),
    ("leave_out", [{"speed": 1}], "leave_out[0].speed"),
    ("leave_out", [{"ratio": 0.77}], "leave_out[0].ratio"),
    ("leave_out", [{"task": "tickets"}], "leave_out"),
    ("tasks", {}, "tasks"),
    ("tasks.tickets.train", None, "tasks.tickets"),
    ("tasks.tickets.train.demo", "no_such", "tasks.tickets.train.name"),
    ("tasks.tickets.train.count", 0, "tasks.tickets.train.count"),
    ("data.folder", "absent", "data.folder"),
    ("data.provider.alignment", {"file": "absent.jsonl"}, "data.provider.alignment.file"),
    ("data.provider.alignment", {"file": "a", "demo": "b"}, "data.provider.alignment"),
    ("data.provider.alignment.between", [0.5, 0.2], "data.provider.alignment.between"),
    ("data.provider.alignment.between", [0.5], "data.provider.alignment.between"),
    ("data.provider.alignment", None, "data.provider.alignment"),
    ("data.attacker.harmful", None, "data.attacker.harmful"),
    ("data.attacker.nonsense", {"demo": "attack"}, "data.attacker.nonsense"),
    ("methods.1.name", "stock", "methods[1]"),
    ("methods.1.name", "a/b", "methods[1].name"),
    ("methods.1.alignment.method", "magic", "methods[1].alignment.method"),
    ("methods.1.alignment.rho", -1, "methods[1].alignment.rho"),
    ("methods.1.alignment.roh", 1, "methods[1].alignment.roh"),
    ("methods.1.alignment.seconds", 60, "methods[1].alignment.seconds"),
    ("methods.1.finetuning", "magic", "methods[1].finetuning.defence"),
    ("methods.1.finetuning", {"name": "lisa", "rho": -1}, "methods[1].finetuning.rho"),
    ("methods.1.repair", "magic", "methods[1].repair.name"),
    ("methods.1.repair", {"steps": 0}, "methods[1].repair.steps"),
    ("methods.1.repair", {"name": "random_noise", "steps": 2}, "methods[1].repair.steps"),
    ("methods.1.tune", {"alignment.rho": [1]}, "methods[1].tune"),
    ("attacks.0", "magic", "attacks[0].attack"),
    ("attacks.0", {"name": "harmful_mixing", "ratio": 7}, "attacks[0].ratio"),
    ("attacks.0", {"name": "harmful_mixing", "label": "benign"}, "attacks[0].label"),
    ("attacks", ["harmful_mixing", "harmful_mixing"], "attacks[1].label"),
    ("strengths", {}, "strengths"),
    ("strengths.strong.steps", None, "strengths.strong"),
    ("strengths.strong.learning_rate", None, "strengths.strong.learning_rate"),
    ("strengths.strong.learning_rate", 5, "strengths.strong.learning_rate"),
    ("training.learning_rate", 0.1, "training.learning_rate"),
    ("training.lora_r", 0, "training.lora_r"),
    ("evaluation.harmful_prompts", None, "evaluation.harmful_prompts"),
    ("evaluation.judge", "any(a", "evaluation.judge"),
    ("evaluation.max_new_tokens", 0, "evaluation.max_new_tokens"),
    ("evaluation.judge_threshold", 2, "evaluation.judge_threshold"),
    ("evaluation.basin", {"steps": 3}, "evaluation.basin.steps"),
    ("evaluation.basin", {"steps": "many"}, "evaluation.basin.steps"),
    ("evaluation.basin", {"seeds": ["one"]}, "evaluation.basin.seeds"),
    ("evaluation.basin", {"seeds": [1, 1]}, "evaluation.basin.seeds"),
    ("evaluation.basin", {"score": "coherent"}, "evaluation.basin.score"),
    ("evaluation.basin", {"radius": "far"}, "evaluation.basin.radius"),
    ("evaluation.plane", {"seeds": [1]}, "evaluation.plane.seeds"),
    ("evaluation.plane", {"seeds": [1, 2, 3]}, "evaluation.plane.seeds"),
    ("evaluation.plane", {"sides": 2}, "evaluation.plane.sides"),
    ("evaluation.drift", {"rows": 0}, "evaluation.drift.rows"),
    ("evaluation.drift", {}, "evaluation.drift.rows"),
    ("evaluation.drift", 5, "evaluation.drift"),
    ("evaluation.gradient_norms", {"batch": 2}, "evaluation.gradient_norms.batch"),
    ("evaluation.emergent", {}, "evaluation.emergent.questions"),
    ("evaluation.emergent", {"questions": "absent.jsonl"}, "evaluation.emergent.questions"),
    ("evaluation.emergent", {"questions": "q", "samples": 0}, "evaluation.emergent.samples"),
    ("sweep", {"trials": 0}, "sweep.trials"),
]


@pytest.mark.parametrize(("path", "value", "param"), MISTAKES)
def test_a_mistake_is_named_by_its_key(values: dict[str, Any], read: Read, path: str, value: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read(change(values, path, value))
    assert error.value.param == param
    assert param in error.value.message
    assert error.value.message.endswith(".")


def test_an_attack_needs_its_pool_only_where_something_of_it_is_left(values: dict[str, Any], read: Read) -> None:
    values["attacks"] = ["benign_drift"]
    with pytest.raises(InvalidRequest) as error:
        read(values)
    assert error.value.param == "data.attacker.selected"
    values["ratios"] = [0]
    assert [plan.label for plan in read(values).attacks] == ["benign"]


@pytest.mark.parametrize(("part", "pool"), [("drift", "alignment"), ("gradient_norms", "harmful")])
def test_a_measurement_needs_the_rows_it_is_made_on(values: dict[str, Any], read: Read, part: str, pool: str) -> None:
    values["methods"] = [{"name": "stock", "alignment": "none"}]
    del values["data"]["provider"][pool]
    assert read(values).evaluation.drift is None
    values["evaluation"][part] = True
    with pytest.raises(InvalidRequest, match=f"is needed by evaluation.{part}") as error:
        read(values)
    assert error.value.param == f"data.provider.{pool}"


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text)
    return path


def test_yaml_becomes_plain_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/data")
    found = read_grid_file(write(tmp_path, "a: 1e-4\nb: [-2.5E+3, x1e-4, '${PLACE}/f']\nc: {d: no}\n"))
    assert found == {"a": 1e-4, "b": [-2500.0, "x1e-4", "/data/f"], "c": {"d": False}}
    # What is recorded of a grid names no place of the machine it ran on.
    assert read_grid_file(tmp_path / "grid.yaml", fill=False)["b"][2] == "${PLACE}/f"


@pytest.mark.parametrize(
    ("text", "param", "said"),
    [
        ("a: {b: 1, b: 2}", "a.b", "stands twice (line 1)"),
        ("a:\n- {c: 1}\n- {c: 1, c: 2}", "a[1].c", "line 3"),
        ("a: ${NO_SUCH_VARIABLE}", "a", "NO_SUCH_VARIABLE is not set"),
        ("a: [", "grid", "is not YAML"),
        ("", "grid", "is empty"),
        ("[1]", "grid", "must hold a mapping"),
        ("a: !!python/object/apply:os.getcwd []", "grid", "use plain values"),
    ],
)
def test_faulty_yaml_is_told(tmp_path: Path, text: str, param: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_grid_file(write(tmp_path, text))
    assert error.value.param == param
    assert said in error.value.message


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_grid(tmp_path / "absent.yaml")


@pytest.mark.skipif("TVACCINE_DATA" not in os.environ, reason="TVACCINE_DATA names no folder of public data sets")
@pytest.mark.parametrize("name", ["smollm2_cpu", "smollm2_full", "smollm2_equal_time", "sweep"])
def test_the_grids_that_come_with_the_project_can_be_read(name: str) -> None:
    grid = read_grid(GRIDS / f"{name}.yaml")
    assert {cell.method.alignment["method"] for cell in cells(grid) if cell.method.alignment} == set(METHODS)
    assert {plan.attack.name for plan in grid.attacks} <= set(ATTACKS)
    assert len(grid.evaluation.harmful_prompts.prompts()) >= 60
    assert os.environ["TVACCINE_DATA"] not in repr(grid.values)


def test_reading_a_grid_loads_no_torch() -> None:
    program = (
        "import sys\nimport tvaccine_core.experiments.grid, tvaccine_core.experiments.tables\n"
        "import tvaccine_core.experiments.choosing, tvaccine_core.attacks.registry\n"
        "print([m for m in ('torch', 'transformers', 'peft', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
