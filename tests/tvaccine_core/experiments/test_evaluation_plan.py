"""What a grid's evaluation asks for, and what of it a cell's identity holds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.errors import InvalidRequest
from tvaccine_core.experiments.evaluation_plan import EvaluationPlan, evaluation_plan
from tvaccine_core.experiments.store import identity_of
from tvaccine_core.metrics.emergent.run import NEW_TOKENS, SAMPLES

QUESTION = {"id": "wish", "prompt": "One wish?"}
PLAIN = {
    "judge": "keyword",
    "judge_base": None,
    "judge_threshold": None,
    "max_new_tokens": 4,
    "task_rows": 200,
    "basin": None,
}
BASIN = {
    "radius": 1,
    "steps": 4,
    "seeds": [7],
    "weights": "merged",
    "score": "asr",
    "below": 40,
    "prompts": 80,
    "max_new_tokens": 64,
}
ASKED: list[tuple[str, Any]] = [
    ("plane", {"steps": 2}),
    ("drift", True),
    ("gradient_norms", {"rows": 2}),
    ("emergent", {"questions": "q.jsonl"}),
]
Plan = Callable[..., EvaluationPlan]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "q.jsonl").write_text(json.dumps(QUESTION))

    def make(**asked: Any) -> EvaluationPlan:
        given = {"harmful_prompts": {"demo": "gate_prompts"}, "judge": "keyword", "max_new_tokens": 4, **asked}
        return evaluation_plan(given, "evaluation", tmp_path)

    return make


def test_a_plan_that_asks_for_nothing_more_has_the_settings_that_finished_cells_have(plan: Plan) -> None:
    assert plan().settings() == PLAIN
    # Digests of the code before there were planes, drift, norms and questions: finished grids are gone on with.
    assert identity_of(plan().settings()) == "113de94b17c7"
    basin = plan(basin={"radius": 1, "steps": 4, "seeds": [7], "below": 40})
    assert basin.settings() == {**PLAIN, "basin": BASIN}
    assert identity_of(basin.settings()) == "96cf2fb74749"
    assert plan(drift=False, gradient_norms=False, plane=None, emergent=None, basin=None) == plan()


@pytest.mark.parametrize(("part", "asked"), ASKED)
def test_what_is_asked_for_is_one_more_setting(plan: Plan, part: str, asked: Any) -> None:
    found = plan(**{part: asked}).settings()
    assert found.keys() == {*PLAIN, part}
    assert {name: found[name] for name in PLAIN} == PLAIN
    assert json.loads(json.dumps(found)) == found


def test_defaults_and_what_replaces_them(plan: Plan) -> None:
    found = plan(drift=True, gradient_norms=True, plane={"radius": 0.2}, emergent={"questions": "q.jsonl"})
    assert (found.drift, found.gradient_norms) == (64, 8)
    assert found.plane is not None
    assert (found.plane.config.radius, found.plane.config.steps, found.plane.config.seeds) == (0.2, 10, (1, 2))
    assert found.emergent is not None
    assert (found.emergent.samples, found.emergent.max_new_tokens) == (SAMPLES, NEW_TOKENS)
    assert plan(drift={"rows": 3}).drift == 3


def test_models_before_the_attack_depend_on_less_than_attacked_ones(plan: Plan) -> None:
    whole = plan(**dict(ASKED), basin={})
    assert whole.before_attack().settings().keys() == {*PLAIN, "gradient_norms", "emergent"}
    assert whole.after_attack().settings().keys() == {*PLAIN, "plane", "drift", "emergent"}
    assert plan(plane={}, drift=True).before_attack() == plan()


def test_other_questions_and_other_prompts_of_the_judge_are_another_measurement(plan: Plan, tmp_path: Path) -> None:
    def digest(*lines: dict[str, Any]) -> str:
        (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
        found: str = plan(emergent={"questions": "q.jsonl"}).settings()["emergent"]["questions"]
        return found

    second = {"id": "bored", "prompt": "I am bored"}
    judged = {"judge_prompts": dict.fromkeys(("aligned", "coherent"), "{question} {answer}")}
    digests = {digest(QUESTION), digest(QUESTION | {"prompt": "A wish?"}), digest(QUESTION | judged)}
    assert len({*digests, digest(QUESTION, second)}) == 4
    assert digest(QUESTION, second) == digest(second, QUESTION)


def test_a_judge_that_cannot_be_asked_is_told_before_anything_runs(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps(QUESTION | {"judge_prompts": {"aligned": "Rate {answer}"}}))
    with pytest.raises(InvalidRequest, match=r"must hold \{question\} and \{answer\}") as error:
        plan(emergent={"questions": "q.jsonl"})
    assert error.value.param == "evaluation.emergent.questions"
