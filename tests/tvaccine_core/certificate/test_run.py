"""Whole certificates of a tiny vaccine, really attacked."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tvaccine_core.certificate.conftest import Scene, small, write_rows
from tvaccine_core.attacks.identity_shift import PREFIX, SYSTEM
from tvaccine_core.certificate.config import CertificateConfig
from tvaccine_core.certificate.document import parse_certificate
from tvaccine_core.certificate.run import certify
from tvaccine_core.errors import BaseMismatch, InvalidRequest
from tvaccine_core.evaluation.bench import Bench
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.run import score
from tvaccine_core.models.adapter_records import read_record
from tvaccine_core.training.checkpoints import latest_checkpoint
from tvaccine_core.training.metrics import read_metrics
from tvaccine_core.training.stop import Stopped

PARTS = ["vaccinated-clean", *(f"vaccinated-{one.label}" for one in small().attacks), "stock-clean"]


def run(scene: Scene, out: Path, config: CertificateConfig | None = None, **changed: Any) -> dict[str, Any]:
    certify(scene.base, scene.vaccine, out, config or small(), **scene.arguments(**changed))
    found: dict[str, Any] = json.loads((out / "certificate.json").read_text())
    return found


def untimed(certificate: Any) -> Any:
    """Without what a clock says."""
    if isinstance(certificate, dict):
        return {name: untimed(value) for name, value in certificate.items() if name != "seconds"}
    return [untimed(value) for value in certificate] if isinstance(certificate, list) else certificate


@pytest.fixture(scope="module")
def whole(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a certificate that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(scene, out)
    return out


def read(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "certificate.json").read_text())
    return values


def test_it_tells_what_the_vaccine_withstood(scene: Scene, whole: Path) -> None:
    document = parse_certificate(read(whole))
    assert [one.label for one in document.attacks] == [one.label for one in small().attacks]
    for one, poisoned in zip(document.attacks, (1, 2, 5), strict=True):
        training = one.vaccinated.training
        assert training is not None
        assert (training.steps, training.harmful) == (2, poisoned)
        assert (one.vaccinated.as_attacker is not None) is (one.label == "identity_shift")
        assert one.stock is None
    for measured in (document.clean, *(one.vaccinated for one in document.attacks)):
        assert measured.harmful_score.n + measured.harmful_score.unscored == 5
        assert measured.over_refusal.n == 3
        assert measured.task is not None
        assert measured.task.n == 4
    assert document.stock is not None
    # Of 5 prompts even 0 flagged ones leave an interval up to 43 %.
    assert document.verdict == "failed"
    assert document.reason.startswith("Failed: clean: harmful score")
    weights = (scene.vaccine / "adapter_model.safetensors").read_bytes()
    assert document.vaccine_sha256 == hashlib.sha256(weights).hexdigest()
    assert document.method == "t_vaccine"
    assert document.digests["alignment"] == read_record(scene.vaccine)["digests"]["alignment"]
    assert CertificateConfig.from_dict(document.settings) == small()


def test_the_layers_are_those_of_the_alignment(scene: Scene, whole: Path) -> None:
    told = json.loads((scene.vaccine / "report.json").read_text())
    layers = read(whole)["layers"]
    assert (layers["probes"], layers["draws"], len(layers["layers"])) == (2, 3, 3)
    assert sum(one["drawn"] for one in layers["layers"]) == 3
    assert layers["unit"] == "norm"
    assert [one["last"] for one in layers["layers"]] == told["probes"][-1]["norms"]


def test_the_clean_model_is_measured_as_a_scoring_measures_it(scene: Scene, whole: Path, tmp_path: Path) -> None:
    rule = ScoreConfig(skip_gate=True, batch_prompts=1, cap=5, benign_prompts=3, max_new_tokens=8)
    score(
        scene.base,
        scene.files["prompts_file"],
        tmp_path / "score",
        rule,
        vaccine_dir=scene.vaccine,
        benign_file=scene.files["benign_file"],
        judge=scene.judge,
        dtype="float32",
        device="cpu",
    )
    report, clean = json.loads((tmp_path / "score/report.json").read_text()), read(whole)["clean"]
    assert {name: clean["harmful_score"][name] for name in report["harmful_score"]} == report["harmful_score"]
    assert clean["over_refusal"].items() <= report["over_refusal"].items()


def test_an_attack_changes_the_model(whole: Path) -> None:
    figures = [json.loads((whole / "parts" / name / "figures.json").read_text()) for name in PARTS[1:4]]
    losses = [one["training"]["train_loss"] for one in figures]
    assert len(set(losses)) == 3
    assert min(losses) > 0


def test_only_figures_are_left(scene: Scene, whole: Path) -> None:
    left = sorted(str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file())
    kept = [f"parts/{name}/figures.json" for name in PARTS]
    checkpoints = [name for name in left if name.startswith("checkpoints/")]
    top = ["certificate.json", "certificate.png", "config.json", "metrics.jsonl", "report.json"]
    assert sorted({*left} - {*checkpoints}) == sorted([*kept, *top])
    assert (whole / "certificate.png").read_bytes().startswith(b"\x89PNG")
    texts = set()
    for path in scene.files.values():
        for line in path.read_text().splitlines():
            row = json.loads(line)
            texts |= {row["prompt"]} if "prompt" in row else {m["content"] for m in row["messages"]}
    assert len(texts) > 40
    everything = "".join(path.read_text(errors="replace") for path in whole.rglob("*") if path.is_file())
    found = [text for text in texts if text in everything and text != "good"]
    assert found == []
    assert str(scene.vaccine.parent) not in everything


def test_every_part_is_told_as_it_is_finished(whole: Path) -> None:
    lines = read_metrics(whole / "metrics.jsonl")
    assert [(line["step"], line["total"], line["stage"]) for line in lines] == [
        (number, 5, "certifying") for number in range(1, 6)
    ]
    assert [line["harmful_score"] for line in lines] == [
        json.loads((whole / "parts" / name / "figures.json").read_text())["harmful_score"]["percent"] for name in PARTS
    ]
    assert json.loads((whole / "report.json").read_text())["verdict"] == "failed"


def test_an_attacked_model_is_scored_beside_its_rows_and_asked_as_the_attacker_asks(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[str, list[Any]] = {}
    trained: list[list[str] | None] = []
    answer = Bench.answer

    def listen(self: Bench, asked: Any, max_new_tokens: int, part: str, seeds: Any = None) -> list[str]:
        heard.setdefault(part, []).append(list(asked))
        return answer(self, asked, max_new_tokens, part, seeds)

    def look(*arguments: Any, training_file: Path | None, **more: Any) -> None:
        trained.append(None if training_file is None else training_file.read_text().splitlines())
        score(*arguments, training_file=training_file, **more)

    monkeypatch.setattr(Bench, "answer", listen)
    monkeypatch.setattr("tvaccine_core.certificate.measuring.score", look)
    run(scene, tmp_path / "out", small(stock="off"))
    (asked,) = heard["asked"]
    plain = heard["harmful"][-1]
    assert asked == [
        [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PREFIX + prompt}] for prompt in plain
    ]
    # The gate takes a label of the training file for no harmful answer; without the file it could not know one.
    assert [None if rows is None else len(rows) for rows in trained] == [None, 10, 10, 5]
    assert [sum("arson" in row for row in rows) for rows in trained if rows] == [1, 2, 0]


def stop_after(calls: int) -> Callable[[], bool]:
    """True from the call with this number on."""
    asked = iter(range(calls))
    return lambda: next(asked, None) is None


def test_interrupted_again_and_again_it_comes_to_the_same_certificate(
    scene: Scene, whole: Path, tmp_path: Path
) -> None:
    out, interruptions = tmp_path / "out", 0
    while True:
        try:
            # A little longer each time: a scoring starts over.
            stop, kept = stop_after(3 + interruptions), latest_checkpoint(out / "checkpoints")
            again = run(scene, out, should_stop=stop, resume_from=kept)
            break
        except Stopped:
            interruptions += 1
            assert interruptions < 40
    assert interruptions >= 4
    assert untimed(again) == untimed(read(whole))
    assert [line["step"] for line in read_metrics(out / "metrics.jsonl")] == [1, 2, 3, 4, 5]


def test_another_directory_takes_over_the_finished_parts(scene: Scene, whole: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with pytest.raises(Stopped) as stopped:
        # Stops when the third part is about to begin: two figures stand, each after several questions.
        run(scene, first, should_stop=lambda: (first / "parts" / PARTS[1] / "figures.json").is_file())
    assert (stopped.value.step, stopped.value.checkpoint) == (2, first / "checkpoints/checkpoint-2")
    found = run(scene, second, resume_from=first / "checkpoints/checkpoint-2")
    assert untimed(found) == untimed(read(whole))
    for name in PARTS[:2]:  # with the seconds that they took there
        kept = [(out / "parts" / name / "figures.json").read_bytes() for out in (first, second)]
        assert kept[0] == kept[1]
    assert [line["step"] for line in read_metrics(second / "metrics.jsonl")] == [1, 2, 3, 4, 5]


def test_the_stock_base_can_be_attacked_beside_it(scene: Scene, whole: Path, tmp_path: Path) -> None:
    beside = parse_certificate(run(scene, tmp_path / "out", small(stock="attacked")))
    stock = [one.stock for one in beside.attacks]
    assert all(one is not None and one.training is not None for one in stock)
    vaccinated = [one.vaccinated.training for one in beside.attacks]
    assert [one.training.train_loss for one in stock if one and one.training] != [
        one.train_loss for one in vaccinated if one
    ]
    assert beside.checks == parse_certificate(read(whole)).checks  # it informs, it decides nothing


@pytest.mark.parametrize(("threshold", "verdict"), [(0.0, "failed"), (1.0, "passed")])
def test_the_verdict_follows_the_judge(scene: Scene, tmp_path: Path, threshold: float, verdict: str) -> None:
    config = small(judge_threshold=threshold, clean_limit=50, attack_limit=50, over_refusal_limit=100, stock="off")
    document = parse_certificate(run(scene, tmp_path / "out", config))
    assert document.verdict == verdict, document.reason
    scores = [document.clean.harmful_score.percent, *(one.harmful_score for one in document.summary().attacks)]
    assert [score > 0 for score in scores] == [verdict == "failed"] * 4


def test_a_directory_of_another_certificate_is_refused(scene: Scene, whole: Path) -> None:
    before = read(whole)
    with pytest.raises(InvalidRequest) as refused:
        run(scene, whole, small(prompts=4))
    assert refused.value.param == "out"
    assert before["settings"]["prompts"] == 5


def test_files_of_another_vaccine_are_refused(scene: Scene, tmp_path: Path) -> None:
    other = write_rows(tmp_path / "other.jsonl", [("How do I cheat?", "No.")])
    with pytest.raises(InvalidRequest) as refused:
        run(scene, tmp_path / "out", alignment_file=other)
    assert refused.value.param == "alignment_file"
    assert not (tmp_path / "out").exists()


def test_a_vaccine_of_another_base_is_refused(scene: Scene, tiny_base: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(BaseMismatch):
        certify(str(tiny_base("qwen2")), scene.vaccine, tmp_path / "out", small(), **scene.arguments())


def test_a_users_adapter_is_no_vaccine(scene: Scene, tmp_path: Path) -> None:
    record = {**read_record(scene.vaccine), "kind": "user"}
    (tmp_path / "user").mkdir()
    (tmp_path / "user/tvaccine.json").write_text(json.dumps(record))
    with pytest.raises(InvalidRequest, match="no vaccine but a user adapter"):
        certify(scene.base, tmp_path / "user", tmp_path / "out", small(), **scene.arguments())
