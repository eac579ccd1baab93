"""Score a model: its answers to harmful prompts, judged, and the gate's decision. Leaves `report.json`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tvaccine_core.data.datasets import file_digest
from tvaccine_core.errors import ScoringFailed
from tvaccine_core.evaluation.answers import task_labels
from tvaccine_core.evaluation.baseline import AnswerCache
from tvaccine_core.evaluation.bench import Bench, benign_prompts, measure_refusals, measure_task
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.examination import Examiner
from tvaccine_core.evaluation.follow_up import follow_up
from tvaccine_core.evaluation.judge.loading import load_judge
from tvaccine_core.evaluation.judge.verdict import Judge
from tvaccine_core.evaluation.pool import COMPOSED, Pool, PoolPrompt, draw, load_pool
from tvaccine_core.evaluation.ruling import Findings, figures, rule
from tvaccine_core.evaluation.seen import seen_prompts
from tvaccine_core.evaluation.sequential import Design, make_design
from tvaccine_core.evaluation.subject import Subject, load_subject
from tvaccine_core.evaluation.triggers import read_rows
from tvaccine_core.evaluation.variants import Variant, all_variants
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE
from tvaccine_core.training.stop import never

SCHEMA = "tvaccine.safety_report/1"


def score(
    base: str,
    prompts_file: Path,
    out: Path,
    config: ScoreConfig,
    *,
    adapter_dir: Path | None = None,
    vaccine_dir: Path | None = None,
    baseline_dir: Path | None = None,
    benign_file: Path | None = None,
    task_file: Path | None = None,
    training_file: Path | None = None,
    screening_file: Path | None = None,
    judge: str | Path | None = None,
    pool_key: str = "",
    draw_key: str = "",
    cache_dir: Path | None = None,
    should_stop: Callable[[], bool] = never,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Score the base with its adapters on the prompts and decide whether it may be released.

    adapter_dir: the combined adapter; or a user adapter, when vaccine_dir is given too. baseline_dir: the vaccine to
    compare with; its answers are kept in cache_dir. benign_file: ordinary prompts, for the share refused.
    task_file: chat rows, for the accuracy. training_file: what the adapter was trained on, for triggers and for
    prompts that it has seen; screening_file: the report of its screening. judge: a name or directory, the
    shipped one if None. pool_key, draw_key: made from a secret, they tell the installation's pool and the job's
    draw; without a draw_key the seed tells it. should_stop: asked after every batch.

    Prompts come in rounds of config.batch_prompts for as long as the gate asks for more. Leaves
    metrics.jsonl, config.json and, last, report.json. Raises ScoringFailed when a verdict would rest on too
    few prompts or on a judge that fails, BaseMismatch when adapter or judge belong to another base,
    InvalidRequest for faulty files and Stopped when should_stop says so.
    """
    _begin(out, config)
    pool = _pool(prompts_file, pool_key, config)
    key = draw_key or f"seed {config.seed}"
    seen = seen_prompts(training_file, [p.text for p in pool.prompts]) if training_file else frozenset()
    drawn = draw(pool, key, seen)
    prompts = drawn[: config.cap]
    design = _design(config, len(prompts))
    subject = load_subject(base, vaccine_dir, adapter_dir, dtype=dtype, device=device)
    chosen = load_judge(judge, subject.base)
    bench = Bench(subject.base.model, subject.base.tokenizer, out, should_stop)
    rows = read_rows(training_file) if training_file else ()
    labels = task_labels(rows, chosen, config.judge_threshold)
    examiner = Examiner(bench, chosen, config, labels)
    found = Findings(config, examiner.examine(prompts, design), design, seen=seen)
    found = _with_refusals(found, bench, benign_file)
    if baseline_dir is not None:
        found = _with_baseline(found, examiner, subject, bench, baseline_dir, cache_dir)
    if found.plain.decision is not None and found.plain.decision.action == "release":
        ways = all_variants(config, training_file, screening_file)
        found = _asked_further(found, examiner, ways, key, drawn)
    report = {
        **_verdict(found, len(prompts)),
        "task": measure_task(bench, task_file) if task_file else None,
        "judge": _judge_card(chosen, config),
        "prompts": _prompt_figures(pool, found),
        "prompts_sha256": file_digest(prompts_file),
        "adapter_sha256": subject.adapter_sha256,
        "base_digest": subject.base.digest,
        "base_name": subject.base.name,
        "training": None,
        "variant_texts": {r.variant.name: r.variant.text for r in found.variants},
        "answers": [answer.to_dict() for answer in _all_answers(found)],
    }
    write_json_atomic(out / "report.json", report)


def _begin(out: Path, config: ScoreConfig) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for left_over in ("report.json", METRICS_FILE):
        (out / left_over).unlink(missing_ok=True)
    write_json_atomic(out / "config.json", config.to_dict())


def _verdict(found: Findings, cap: int) -> dict[str, Any]:
    """The report's first part: what was decided by which rule, and the figures."""
    verdict, reason, checks = rule(found)
    return {
        "schema": SCHEMA,
        "verdict": verdict,
        "reason": reason,
        "checks": [check.to_dict() for check in checks],
        "rule": {**found.config.to_dict(), "cap": cap},
        **figures(found),
        "refusal": found.refusals,
    }


def _judge_card(judge: Judge, config: ScoreConfig) -> dict[str, Any]:
    threshold = judge.threshold if config.judge_threshold is None else config.judge_threshold
    return {"name": judge.name, "version": judge.version, "threshold": threshold}


def _pool(prompts_file: Path, key: str, config: ScoreConfig) -> Pool:
    share = 0.0 if config.skip_gate and config.composed_share is None else config.composed_share
    pool = load_pool(prompts_file, key, config.composed_pool, share)
    if not config.skip_gate and len(pool.prompts) < config.batch_prompts:
        raise ScoringFailed(
            f"{prompts_file.name} holds {len(pool.prompts)} different prompts, a round needs {config.batch_prompts}; "
            "add prompts or lower batch_prompts."
        )
    config.require_categories({prompt.category for prompt in pool.prompts})
    return pool


def _design(config: ScoreConfig, cap: int) -> Design | None:
    if config.skip_gate:
        return None
    shares = (config.limit / 100, config.good / 100, config.alpha, config.beta)
    return make_design(config.batch_prompts, cap, *shares)


def _with_refusals(found: Findings, bench: Bench, benign_file: Path | None) -> Findings:
    if benign_file is None:
        return found
    prompts = benign_prompts(benign_file, found.config)
    return replace(
        found, refusals=measure_refusals(prompts, bench.answer(prompts, found.config.max_new_tokens, "benign"))
    )


def _with_baseline(
    found: Findings, examiner: Examiner, subject: Subject, bench: Bench, baseline_dir: Path, cache_dir: Path | None
) -> Findings:
    """Ask the vaccinated model what the tuned one was asked, as far as its answers are not known."""
    length = found.config.max_new_tokens
    cache = AnswerCache(cache_dir, subject.answer_identity(baseline_dir, length))

    def ask(prompts: Sequence[str]) -> list[str]:
        return bench.answer(prompts, length, "baseline")

    refusals = None
    with subject.vaccinated_only(baseline_dir):
        said = cache.answers([p.text for p in found.plain.asked], ask)
        if found.refusals is not None:
            harmless = [row["prompt"] for row in found.refusals["answers"]]
            refusals = measure_refusals(harmless, cache.answers(harmless, ask))
    judged = examiner.judge_said(found.plain.asked, said, ["baseline"] * len(said))
    return replace(found, baseline=judged, baseline_refusals=refusals)


def _asked_further(
    found: Findings, examiner: Examiner, ways: Sequence[Variant], key: str, drawn: Sequence[PoolPrompt]
) -> Findings:
    """What only a model that would be released is asked: categories in doubt, and prompts put in other ways."""
    reserve = [prompt for prompt in drawn[len(found.plain.asked) :] if prompt.text not in found.seen]
    followed = follow_up(examiner, found.plain, reserve, found.config.category_prompts)
    return replace(found, followed=followed, variants=examiner.vary(found.plain, ways, key, reserve))


def _prompt_figures(pool: Pool, found: Findings) -> dict[str, Any]:
    return {
        "pool_sha256": pool.sha256,
        "pool_size": len(pool.prompts),
        "drawn": len(found.plain.asked),
        "composed": sum(prompt.part == COMPOSED for prompt in found.plain.asked),
        "seen_in_training": len(found.seen),
    }


def _all_answers(found: Findings) -> list[Any]:
    """The tuned model's answers, plain ones first."""
    varied = (answer for result in found.variants for answer in result.answers)
    return [*found.plain.answers, *found.followed.answers, *varied]
