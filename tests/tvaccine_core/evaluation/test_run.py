import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.errors import BaseMismatch, InvalidRequest, ScoringFailed
from tvaccine_core.evaluation.bench import ordered_prompts
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.report.document import parse_report
from tvaccine_core.evaluation.run import score
from tvaccine_core.training.stop import Stopped

CONFIG = ScoreConfig(batch_prompts=6, cap=15, max_new_tokens=4, coherence_floor=0.0)


@pytest.fixture
def prompts_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    words = ["one", "two", "three", "four", "five"]
    lines = [json.dumps({"prompt": f"What is {words[i % 5]} and {i}?"}) for i in range(20)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(
    tiny_base: Callable[[str], Path],
    load_tiny: Callable[..., Any],
    random_probe: Callable[..., Any],
    prompts_file: Path,
    tmp_path: Path,
) -> Callable[..., dict[str, Any]]:
    """Score the tiny base with a judge of the given bias; the report."""

    def go(bias: float = 0.0, config: ScoreConfig = CONFIG, **arguments: Any) -> dict[str, Any]:
        base = load_tiny()
        random_probe(base, bias).save(tmp_path / "judge")
        out = tmp_path / "out"
        arguments.setdefault("judge", tmp_path / "judge")
        score(str(tiny_base("llama")), prompts_file, out, config, dtype="float32", device="cpu", **arguments)
        report: dict[str, Any] = json.loads((out / "report.json").read_text())
        return report

    return go


def test_a_model_that_is_always_flagged_is_blocked_at_once(run: Callable[..., dict[str, Any]]) -> None:
    report = run(bias=1000.0)
    assert report["verdict"] == "fail"
    assert report["harmful_score"] == {"percent": 100.0, "low": 60.97, "high": 100.0, "flagged": 6, "n": 6}
    assert [(r["n"], r["flagged"], r["action"]) for r in report["rounds"]] == [(6, 6, "block")]
    assert len(report["answers"]) == 6
    assert report["reason"].startswith("Blocked")


def test_an_undecided_model_gets_more_prompts_and_is_then_blocked(
    run: Callable[..., dict[str, Any]],
) -> None:
    # Nothing is flagged; of 15 prompts the upper end of the interval is still 20.4 %.
    report = run(bias=-1000.0)
    assert [(r["n"], r["action"]) for r in report["rounds"]] == [(6, "more"), (12, "more"), (15, "block")]
    assert report["verdict"] == "fail"
    assert report["harmful_score"]["flagged"] == 0
    assert report["rule"]["cap"] == 15


def test_a_harmless_model_is_released(run: Callable[..., dict[str, Any]]) -> None:
    report = run(bias=-1000.0, config=ScoreConfig.from_dict({**CONFIG.to_dict(), "limit": 40.0}))
    assert (report["verdict"], report["harmful_score"]["high"]) == ("pass", 24.25)
    assert [(r["n"], r["action"]) for r in report["rounds"]] == [(6, "more"), (12, "release")]
    assert report["refusal"] is None
    assert report["task"] is None


def test_babble_is_blocked_however_harmless(run: Callable[..., dict[str, Any]]) -> None:
    config = ScoreConfig.from_dict({**CONFIG.to_dict(), "coherence_floor": 100.0, "max_new_tokens": 40})
    report = run(bias=-1000.0, config=config)
    assert report["verdict"] == "fail"
    assert "not coherent" in report["reason"]
    faults = report["coherence"]["faults"]
    assert sum(faults.values()) == report["coherence"]["n"] - report["coherence"]["coherent"] > 0
    assert [a["fault"] for a in report["answers"] if not a["coherent"]].count("repeating") == faults.get("repeating", 0)


def test_the_report_says_what_was_scored_by_whom(
    run: Callable[..., dict[str, Any]],
    tiny_adapter: Callable[..., Path],
    load_tiny: Callable[..., Any],
    prompts_file: Path,
    tmp_path: Path,
) -> None:
    adapter = tiny_adapter()
    stock = run(config=ScoreConfig.from_dict({**CONFIG.to_dict(), "skip_gate": True}))
    report = run(adapter_dir=adapter, config=ScoreConfig.from_dict({**CONFIG.to_dict(), "skip_gate": True}))
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    assert report["adapter_sha256"] == "sha256:" + hashlib.sha256(weights).hexdigest()
    assert stock["adapter_sha256"] is None
    assert report["prompts_sha256"] == "sha256:" + hashlib.sha256(prompts_file.read_bytes()).hexdigest()
    assert report["base_digest"] == load_tiny().digest
    assert report["judge"]["name"] == "embedded"
    assert report["judge"]["threshold"] == 0.5
    assert (report["verdict"], len(report["answers"])) == (None, 15)
    # the adapter speaks, the stock base judges
    assert [a["answer"] for a in report["answers"]] != [a["answer"] for a in stock["answers"]]
    assert [a["prompt"] for a in report["answers"]] == [a["prompt"] for a in stock["answers"]]
    same = {(a["prompt"], a["answer"]): a["score"] for a in stock["answers"]}
    for answer in report["answers"]:
        key = (answer["prompt"], answer["answer"])
        assert same.get(key, answer["score"]) == answer["score"]
    metrics = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["stage"] == "scoring"
    assert (metrics[-1]["step"], metrics[-1]["total"]) == (15, 15)
    assert ScoreConfig.from_dict(json.loads((tmp_path / "out/config.json").read_text())).skip_gate


def test_vaccine_and_user_adapter_are_combined(
    run: Callable[..., dict[str, Any]], tiny_adapter: Callable[..., Path]
) -> None:
    vaccine, user, combined = tiny_adapter("vaccine", 1), tiny_adapter("user", 2), tiny_adapter("combined", 3)
    both = run(vaccine_dir=vaccine, adapter_dir=user)
    one = run(vaccine_dir=vaccine)
    assert both["adapter_sha256"] not in (None, one["adapter_sha256"])
    with pytest.raises(InvalidRequest, match="vaccine already"):
        run(vaccine_dir=vaccine, adapter_dir=combined)


def test_side_figures_are_measured_and_decide_nothing(
    run: Callable[..., dict[str, Any]], prompts_file: Path, rows_file: Path
) -> None:
    plain = run()
    report = run(benign_file=prompts_file, task_file=rows_file)
    assert report["verdict"] == plain["verdict"]
    assert report["answers"] == plain["answers"]
    assert (report["refusal"]["n"], report["refusal"]["percent"]) == (20, 0.0)
    assert report["task"] == {"accuracy": 0.0, "correct": 0, "n": 12}


def test_the_threshold_can_be_overridden(run: Callable[..., dict[str, Any]]) -> None:
    report = run(config=ScoreConfig.from_dict({**CONFIG.to_dict(), "judge_threshold": 0.0}))
    assert report["harmful_score"]["percent"] == 100.0
    assert report["judge"]["threshold"] == 0.0


def test_too_few_prompts_fail_closed(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ScoringFailed, match="20 different prompts, a round needs 21"):
        run(config=ScoreConfig(batch_prompts=21, cap=40))
    assert not (tmp_path / "out/report.json").exists()


def test_a_judge_that_gives_no_numbers_fails_closed(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ScoringFailed, match="gave nan"):
        run(bias=float("nan"))
    assert not (tmp_path / "out/report.json").exists()


def test_another_bases_judge_and_adapter_are_refused(
    run: Callable[..., dict[str, Any]],
    load_tiny: Callable[..., Any],
    random_probe: Callable[..., Any],
    tiny_adapter: Callable[..., Path],
    tmp_path: Path,
) -> None:
    random_probe(load_tiny("qwen2")).save(tmp_path / "other")
    with pytest.raises(BaseMismatch):
        run(judge=tmp_path / "other")
    with pytest.raises(BaseMismatch):
        run(judge=None)  # the shipped judge belongs to the embedded base
    adapter = tiny_adapter()
    record = json.loads((adapter / "tvaccine.json").read_text())
    (adapter / "tvaccine.json").write_text(json.dumps({**record, "base_digest": "sha256:0"}))
    with pytest.raises(BaseMismatch):
        run(adapter_dir=adapter)


def test_it_stops_when_told_and_leaves_no_report(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    run()
    asked: list[bool] = []
    with pytest.raises(Stopped):
        run(should_stop=lambda: bool(asked.append(True)) or len(asked) >= 2)
    assert not (tmp_path / "out/report.json").exists()


def test_the_order_depends_on_seed_and_texts_only() -> None:
    prompts = [f"p{i}" for i in range(50)]
    assert ordered_prompts(prompts, 1) == ordered_prompts(prompts[::-1] + prompts, 1)
    assert ordered_prompts(prompts, 1) != ordered_prompts(prompts, 2) != prompts
    assert sorted(ordered_prompts(prompts, 1)) == sorted(prompts)
    # adding prompts does not reorder the others
    longer = [p for p in ordered_prompts([*prompts, "new"], 1) if p != "new"]
    assert longer == ordered_prompts(prompts, 1)


def test_the_whole_gate_on_real_adapters(
    run: Callable[..., dict[str, Any]],
    tiny_adapter: Callable[..., Path],
    prompts_file: Path,
    rows_file: Path,
    tmp_path: Path,
) -> None:
    """Baseline, variants and triggers with weights: every part of the report is filled and consistent."""
    vaccine, combined = tiny_adapter("vaccine", 1), tiny_adapter("combined", 3)
    config = ScoreConfig.from_dict({**CONFIG.to_dict(), "limit": 60.0, "variant_prompts": 3, "unscored_limit": 100})
    arguments = {
        "adapter_dir": combined,
        "baseline_dir": vaccine,
        "benign_file": prompts_file,
        "training_file": rows_file,
        "cache_dir": tmp_path / "cache",
        "pool_key": "installation",
        "draw_key": "job",
    }
    report = run(bias=-1000.0, config=config, **arguments)
    assert report["verdict"] == "pass", report["reason"]
    assert parse_report(report).checks[0].check == "harmful_score"
    assert report["schema"] == "tvaccine.safety_report/1"
    assert report["harmful_score"]["n"] == report["sequential"]["n_used"] == 6
    assert report["baseline"]["difference"]["points"] == 0.0
    assert report["baseline"]["discordant"] == {"only_model": 0, "only_baseline": 0}
    assert report["over_refusal"]["baseline_percent"] == 0.0
    names = [variant["variant"] for variant in report["variants"]]
    assert names[:3] == ["sampled", "system_prompt", "jailbreak_prefix"]
    assert "trigger_1" in names
    assert {variant["n"] for variant in report["variants"][:3]} == {3}
    assert {variant["n"] for variant in report["variants"][3:]} <= {3, 6, 9, 12}
    assert {check["name"] for check in report["checks"]} >= {*names, "baseline", "over_refusal", "coherence"}
    by_variant = {name: [a["answer"] for a in report["answers"] if a["variant"] == name] for name in ("plain", *names)}
    assert len(by_variant["plain"]) == 6
    assert by_variant["sampled"] != by_variant["plain"][:3]
    assert report["variant_texts"]["trigger_1"]
    assert report["prompts"]["pool_size"] == 20
    (cache,) = (tmp_path / "cache").iterdir()
    size = cache.stat().st_size
    assert run(bias=-1000.0, config=config, **arguments) == report
    assert cache.stat().st_size == size


def test_a_baseline_is_the_vaccinated_model_and_not_the_tuned_one(
    run: Callable[..., dict[str, Any]], tiny_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    vaccine, combined = tiny_adapter("vaccine", 1), tiny_adapter("combined", 3)
    alone = run(adapter_dir=vaccine)
    run(adapter_dir=combined, baseline_dir=vaccine, cache_dir=tmp_path / "cache")
    (cache,) = (tmp_path / "cache").iterdir()
    kept = [json.loads(line)["answer"] for line in cache.read_text().split("\n") if line]
    assert kept == [answer["answer"] for answer in alone["answers"]][: len(kept)]
    with pytest.raises(InvalidRequest, match="needs an adapter"):
        run(baseline_dir=vaccine)


def test_other_draws_ask_other_prompts(run: Callable[..., dict[str, Any]]) -> None:
    one, two = (run(bias=1000.0, draw_key=key) for key in ("job 1", "job 2"))
    assert {a["prompt"] for a in one["answers"]} != {a["prompt"] for a in two["answers"]}
