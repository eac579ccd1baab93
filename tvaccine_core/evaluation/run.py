"""Score a model: its answers to harmful prompts, judged, and the gate's decision. Leaves `report.json`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tvaccine_core.data.datasets import file_digest, read_prompts
from tvaccine_core.errors import ScoringFailed
from tvaccine_core.evaluation.answers import (
    JudgedAnswer,
    coherence_figures,
    harmful_figures,
    judge_answers,
)
from tvaccine_core.evaluation.bench import Bench, measure_refusals, measure_task, ordered_prompts
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.gate import Decision, decide
from tvaccine_core.evaluation.intervals import wilson
from tvaccine_core.evaluation.judge.probe import load_judge
from tvaccine_core.evaluation.subject import load_subject
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.metrics import METRICS_FILE
from tvaccine_core.training.stop import never


def score(
    base: str,
    prompts_file: Path,
    out: Path,
    config: ScoreConfig,
    *,
    adapter_dir: Path | None = None,
    vaccine_dir: Path | None = None,
    benign_file: Path | None = None,
    task_file: Path | None = None,
    judge_dir: Path | None = None,
    should_stop: Callable[[], bool] = never,
    dtype: str = "auto",
    device: str = "auto",
) -> None:
    """Score the base with its adapters on the prompts and decide whether it may be released.

    adapter_dir: the combined adapter; or a user adapter, when vaccine_dir is given too. benign_file:
    ordinary prompts, for the share refused. task_file: chat rows, for the accuracy. judge_dir: a trained
    judge, the shipped one if None. should_stop: asked after every batch.

    Prompts come in rounds of config.batch_prompts for as long as the gate asks for more. Leaves
    metrics.jsonl, config.json and, last, report.json. Raises ScoringFailed when a verdict would rest on too
    few prompts or on a judge that fails, BaseMismatch when adapter or judge belong to another base,
    InvalidRequest for faulty files and Stopped when should_stop says so.
    """
    out.mkdir(parents=True, exist_ok=True)
    prompts = ordered_prompts([row.prompt for row in read_prompts(prompts_file)], config.seed)
    if not config.skip_gate and len(prompts) < config.batch_prompts:
        raise ScoringFailed(
            f"{prompts_file.name} holds {len(prompts)} different prompts, a round needs {config.batch_prompts}; "
            "add prompts or lower batch_prompts."
        )
    for left_over in ("report.json", METRICS_FILE):
        (out / left_over).unlink(missing_ok=True)
    write_json_atomic(out / "config.json", config.to_dict())
    subject = load_subject(base, vaccine_dir, adapter_dir, dtype=dtype, device=device)
    judge = load_judge(judge_dir, subject.base)
    bench = Bench(subject.base.model, subject.base.tokenizer, judge, config, out, should_stop)
    decision, answers, rounds = run_rounds(bench, prompts)
    report = {
        "verdict": {"release": "pass", "block": "fail"}[decision.action] if decision else None,
        "reason": decision.reason if decision else "Measured only, the gate was not asked.",
        "rule": {**config.to_dict(), "cap": min(config.cap, len(prompts))},
        "harmful_score": harmful_figures(answers, *interval(answers)),
        "coherence": coherence_figures(answers),
        "refusal": measure_refusals(bench, benign_file) if benign_file else None,
        "task": measure_task(bench, task_file) if task_file else None,
        "rounds": rounds,
        "judge": {
            "name": judge.name,
            "version": judge.version,
            "threshold": judge.threshold if config.judge_threshold is None else config.judge_threshold,
        },
        "prompts_sha256": file_digest(prompts_file),
        "adapter_sha256": subject.adapter_sha256,
        "base_digest": subject.base.digest,
        "base_name": subject.base.name,
        "answers": [answer.to_dict() for answer in answers],
    }
    write_json_atomic(out / "report.json", report)


def run_rounds(
    bench: Bench, prompts: Sequence[str]
) -> tuple[Decision | None, list[JudgedAnswer], list[dict[str, Any]]]:
    """Answer and judge prompts until the gate decides;

    all of them at once, up to the cap, when it is skipped.
    """
    config = bench.config
    cap = min(config.cap, len(prompts))
    size = cap if config.skip_gate else config.batch_prompts
    answers: list[JudgedAnswer] = []
    rounds: list[dict[str, Any]] = []
    decision: Decision | None = None
    while len(answers) < cap:
        batch = prompts[len(answers) : min(len(answers) + size, cap)]
        said = bench.answer(batch, config.max_new_tokens, "harmful")
        check = lambda _done, _total: bench.check_stop()  # noqa: E731
        answers += judge_answers(bench.judge, batch, said, config.judge_threshold, check)
        if config.skip_gate:
            continue
        flagged = sum(answer.flagged for answer in answers)
        coherent = sum(answer.fault is None for answer in answers)
        decision = decide(flagged, len(answers), coherent, config.limit, config.coherence_floor, cap)
        rounds.append({"n": len(answers), "flagged": flagged, **_rounded(decision)})
        if decision.action != "more":
            break
    return decision, answers, rounds


def _rounded(decision: Decision) -> dict[str, Any]:
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(decision).items()}


def interval(answers: Sequence[JudgedAnswer]) -> tuple[float, float]:
    """95 % Wilson interval of the harmful score, percent."""
    low, high = wilson(sum(answer.flagged for answer in answers), len(answers))
    return 100 * low, 100 * high
