import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tvaccine_core.errors import InvalidRequest, ScoringFailed
from tvaccine_core.evaluation.judge.keyword import KeywordJudge
from tvaccine_core.metrics.answering import greedy
from tvaccine_core.metrics.landscape.config import LandscapeConfig
from tvaccine_core.metrics.landscape.directions import TowardWeights
from tvaccine_core.metrics.landscape.measures import HarmfulAnswers
from tvaccine_core.metrics.landscape.run import measure_basin, measure_plane, measure_way
from tvaccine_core.metrics.landscape.weights import PerturbableWeights
from tvaccine_core.training.stop import Stopped

CONFIG = LandscapeConfig(radius=0.5, steps=4, seeds=(1, 2))
IDENTITY = {"prompts": "p"}


@pytest.fixture
def tiny() -> Any:
    from tiny_models import tiny_model

    return tiny_model("llama", layers=2).eval()


class Distance:
    """A score that depends on the weights alone: how far they are from where they were, 0 to 100."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.start = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.calls = 0

    def __call__(self) -> dict[str, float]:
        self.calls += 1
        now = {name: p.detach() for name, p in self.model.named_parameters()}
        squares = sum(float((now[name] - start).square().sum()) for name, start in self.start.items())
        norm = sum(float(p.square().sum()) for name, p in self.start.items() if "norm" not in name)
        return {"asr": min(100.0, 220 * math.sqrt(squares / norm)), "coherent": 100.0}


def test_a_basin_has_a_line_for_each_seed_and_their_mean(tiny: Any, tmp_path: Path) -> None:
    measure = Distance(tiny)
    report = measure_basin(tiny, measure, tmp_path, CONFIG, identity=IDENTITY)
    assert measure.calls == 10
    assert [line["seed"] for line in report["lines"]] == [1, 2]
    for line in report["lines"]:
        assert [point["alpha"] for point in line["points"]] == [-0.5, -0.25, 0.0, 0.25, 0.5]
        # A step of alpha is alpha times as long as the weights: S = 220 |alpha|, at most 100.
        assert [point["asr"] for point in line["points"]] == pytest.approx([100, 55, 0, 55, 100], abs=1e-3)
        assert line["visage"] == pytest.approx((45 + 100 + 45) / 3, abs=1e-3)
        assert line["width"] == 0.0
    assert report["visage"] == pytest.approx((45 + 100 + 45) / 3, abs=1e-3)
    assert json.loads((tmp_path / "basin.json").read_text()) == report


def test_a_sweep_goes_on_where_it_was_stopped(tiny: Any, tmp_path: Path) -> None:
    whole = measure_basin(tiny, Distance(tiny), tmp_path / "whole", CONFIG, identity=IDENTITY)
    measure, asked = Distance(tiny), iter(range(100))
    with pytest.raises(Stopped) as stopped:
        measure_basin(tiny, measure, tmp_path / "cut", CONFIG, identity=IDENTITY, should_stop=lambda: next(asked) >= 3)
    assert stopped.value.step == measure.calls == 3
    assert not (tmp_path / "cut/basin.json").exists()
    lines = (tmp_path / "cut/line-1.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["place"][0] for line in lines[1:]) == [-0.25, 0.0, 0.25]  # the nearest came first
    resumed = measure_basin(tiny, measure, tmp_path / "cut", CONFIG, identity=IDENTITY)
    assert measure.calls == 10
    assert resumed == whole
    measure_basin(tiny, measure, tmp_path / "cut", CONFIG, identity=IDENTITY)
    assert measure.calls == 10


def test_a_line_cut_short_by_a_crash_is_measured_again(tiny: Any, tmp_path: Path) -> None:
    whole = measure_basin(tiny, Distance(tiny), tmp_path, CONFIG, identity=IDENTITY)
    file = tmp_path / "line-2.jsonl"
    file.write_text(file.read_text()[:-20])
    measure = Distance(tiny)
    assert measure_basin(tiny, measure, tmp_path, CONFIG, identity=IDENTITY) == whole
    assert measure.calls == 1


@pytest.mark.parametrize("what", ["prompts", "model", "axes"])
def test_points_of_another_sweep_are_not_mixed_in(tiny: Any, tmp_path: Path, what: str) -> None:
    measure_basin(tiny, Distance(tiny), tmp_path, CONFIG, identity=IDENTITY)
    identity, config = IDENTITY, CONFIG
    if what == "prompts":
        identity = {"prompts": "others"}
    elif what == "axes":
        config = LandscapeConfig(radius=0.4, steps=4, seeds=(1, 2))
    else:
        with torch.no_grad():
            tiny.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-6
    with pytest.raises(InvalidRequest) as error:
        measure_basin(tiny, Distance(tiny), tmp_path, config, identity=identity)
    assert error.value.param == "out"


def test_the_model_is_left_as_it_was(tiny: Any, tmp_path: Path) -> None:
    before = PerturbableWeights(tiny).fingerprint()
    measure_basin(tiny, Distance(tiny), tmp_path, CONFIG, identity=IDENTITY)
    assert PerturbableWeights(tiny).fingerprint() == before


def test_a_plane_holds_the_lines_through_its_middle(tiny: Any, tmp_path: Path) -> None:
    basin = measure_basin(tiny, Distance(tiny), tmp_path / "lines", CONFIG, identity=IDENTITY)
    measure = Distance(tiny)
    plane = measure_plane(tiny, measure, tmp_path, CONFIG, identity=IDENTITY)
    assert measure.calls == 25
    along = [[point["asr"] for point in line["points"]] for line in basin["lines"]]
    assert plane["scores"][2] == along[0]  # row: the second direction's step, column: the first one's
    assert [row[2] for row in plane["scores"]] == along[1]
    assert plane["directions"] == ["random:1", "random:2"]
    assert json.loads((tmp_path / "plane.json").read_text()) == plane


def test_a_plane_towards_another_model(tiny: Any, tmp_path: Path) -> None:
    from tiny_models import tiny_model

    config = LandscapeConfig(radius=1.0, steps=2, seeds=(1,))
    with pytest.raises(InvalidRequest) as error:
        measure_plane(tiny, Distance(tiny), tmp_path, config, identity=IDENTITY)
    assert error.value.param == "seeds"
    other = tiny_model("llama", layers=2, seed=5)
    targets = {name: p.detach() for name, p in other.named_parameters()}

    def gap() -> dict[str, float]:
        far = sum(float((p.detach() - targets[name]).abs().sum()) for name, p in tiny.named_parameters())
        return {"asr": min(100.0, far)}

    way = TowardWeights(PerturbableWeights(other).values(), "tuned")
    plane = measure_plane(tiny, gap, tmp_path, config, identity=IDENTITY, toward=way)
    assert plane["directions"] == ["random:1", "toward:tuned"]
    assert plane["scores"][2][1] == 0.0  # (0, 1) is the other model
    assert plane["scores"][1][1] > 0.0


def test_the_way_to_another_model(tiny: Any, tmp_path: Path) -> None:
    from tiny_models import tiny_model

    other = tiny_model("llama", layers=2, seed=5)
    start, end = ([p.detach().clone() for p in model.parameters()] for model in (tiny, other))

    def travelled() -> dict[str, float]:
        moved = sum(float((p.detach() - a).norm()) for p, a in zip(tiny.parameters(), start, strict=True))
        return {"asr": moved / sum(float((b - a).norm()) for a, b in zip(start, end, strict=True))}

    way = TowardWeights(PerturbableWeights(other).values(), "tuned")
    places = (-0.5, 0.0, 0.5, 1.0, 1.5)
    report = measure_way(tiny, way, places, travelled, tmp_path, identity=IDENTITY)
    assert [point["t"] for point in report["points"]] == list(places)
    assert [point["asr"] for point in report["points"]] == pytest.approx([0.5, 0.0, 0.5, 1.0, 1.5], rel=1e-5)
    assert json.loads((tmp_path / "way.json").read_text()) == report


def test_a_missing_score_and_a_measure_without_a_number(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as error:
        measure_basin(tiny, lambda: {"hs": 1.0}, tmp_path / "a", CONFIG, identity=IDENTITY)
    assert error.value.param == "score"
    with pytest.raises(ScoringFailed):
        measure_basin(tiny, lambda: {"asr": math.nan}, tmp_path / "b", CONFIG, identity=IDENTITY)


def test_measuring_real_answers(tiny_base: Callable[[str], Any], tmp_path: Path) -> None:
    from tvaccine_core.models.base import load_base

    base = load_base(str(tiny_base("llama")), dtype="float32", device="cpu")
    measure = HarmfulAnswers(
        greedy(base.model, base.tokenizer), ["How do I?", "Tell me"], system="Be good.", judge=KeywordJudge(),
        max_new_tokens=4,
    )  # fmt: skip
    config = LandscapeConfig(steps=2, seeds=(1,))
    report = measure_basin(base.model, measure, tmp_path, config, identity=measure.identity)
    values = report["lines"][0]["points"][1]
    assert values["asr"] == measure()["asr"] == 100.0  # random weights refuse nothing
    assert values.keys() == {"alpha", "asr", "coherent", "harmful_score"}


def test_the_deployed_system_prompt_is_asked_with(tmp_path: Path) -> None:
    seen: list[Any] = []

    def answer(asked: Sequence[Any], most: int) -> list[str]:
        seen.extend(asked)
        return ["I cannot help with that.", "Sure. Take this and wait for an hour."]

    measure = HarmfulAnswers(answer, ["a?", "b?"], system="Be good.")
    assert measure() == {"asr": 50.0, "coherent": 100.0}
    assert seen[0] == [{"role": "system", "content": "Be good."}, {"role": "user", "content": "a?"}]
    HarmfulAnswers(answer, ["a?", "b?"])()
    assert seen[2] == [{"role": "user", "content": "a?"}]
    settings = [(system, most) for system in (None, "x") for most in (1, 2)]
    identities = [HarmfulAnswers(answer, ["a?"], system=s, max_new_tokens=n).identity for s, n in settings]
    assert len({json.dumps(one, sort_keys=True) for one in identities}) == 4
