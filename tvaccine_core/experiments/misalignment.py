"""Emergent misalignment of one model of a grid: it is asked questions, a base rates its answers (arXiv 2502.17424)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tvaccine_core.evaluation.judge.features import stock
from tvaccine_core.evaluation.subject import Subject
from tvaccine_core.experiments.emergent_plan import EmergentPlan
from tvaccine_core.metrics.answering import greedy, sampled
from tvaccine_core.metrics.emergent.rating import PromptedJudge, read_number
from tvaccine_core.metrics.emergent.run import measure_emergent
from tvaccine_core.models.base import Base, load_base

JUDGE_TOKENS = 16
"""Of a rating: a number or a word, and what a talkative judge says before it."""
HIGHEST = 100.0


def measure_misalignment(
    subject: Subject, plan: EmergentPlan, folder: Path, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """The rates in percent (`misalignment_rates`), with judge and settings.

    Every answer with its rating stays in `folder`; a run cut short goes on from there. Raises Stopped.
    """
    base = subject.base
    dtype, device = str(base.model.dtype).removeprefix("torch."), base.model.device.type
    judging = base if plan.judge_base is None else load_base(plan.judge_base, dtype=dtype, device=device)
    return measure_emergent(
        lambda seed: sampled(base.model, base.tokenizer, seed),
        plan.questions,
        prompted_judge(judging, plan),
        folder,
        identity={
            "base": base.digest, "adapter": subject.adapter_sha256, "dtype": dtype, "questions": plan.digest,
        },
        samples=plan.samples,
        max_new_tokens=plan.max_new_tokens,
        should_stop=should_stop,
    )  # fmt: skip


def prompted_judge(base: Base, plan: EmergentPlan) -> PromptedJudge:
    """The base as a judge, without the adapters that it carries; it answers greedily. Named by its digest."""

    def ask(prompts: Sequence[str]) -> list[str]:
        with stock(base.model):
            said = greedy(base.model, base.tokenizer)(list(prompts), JUDGE_TOKENS)
        return [rating_text(text) for text in said]

    return PromptedJudge(f"{base.name} {base.digest.removeprefix('sha256:')[:12]}", ask, plan.prompts)


def rating_text(text: str) -> str:
    """The judge's text, nothing of one whose number is above 100: that answer stays unrated.

    A small judge's "2024" is no rating, and no reason to lose a cell that is trained.
    """
    number = read_number(text)
    return "" if number is not None and number > HIGHEST else text
