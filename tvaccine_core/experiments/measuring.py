"""The figures of one model: harmful score, accuracy, over-refusal, keyword attack success, coherence, perplexity.

Beside these what the grid asks for: safety landscapes, emergent misalignment, drift, gradient norms. All answers but
those to the questions of emergent misalignment are greedy, in the model's own chat template, the same for every method.
Texts of answers stay in the folders `answers`; what is returned holds numbers alone, so that it can be published.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.attack import Attack
from tvaccine_core.evaluation.accuracy import count_correct, has_labels, read_task
from tvaccine_core.evaluation.answers import (
    JudgedAnswer,
    coherence_figures,
    harmful_figures,
    judge_answers,
    share_figures,
)
from tvaccine_core.evaluation.bench import measure_refusals
from tvaccine_core.evaluation.generation import Conversation, generate
from tvaccine_core.evaluation.judge.loading import load_judge
from tvaccine_core.evaluation.judge.verdict import Judge
from tvaccine_core.evaluation.pool import UNCATEGORISED
from tvaccine_core.evaluation.subject import Subject, load_subject
from tvaccine_core.experiments.evaluation_plan import EvaluationPlan
from tvaccine_core.experiments.landscape_plan import LandscapePlan
from tvaccine_core.experiments.layer_states import measure_drift, measure_gradient_norms
from tvaccine_core.experiments.materials import Materials, RowFile, as_rows
from tvaccine_core.experiments.misalignment import measure_misalignment
from tvaccine_core.experiments.store import identity_of
from tvaccine_core.metrics.answering import Answerer
from tvaccine_core.metrics.harmful_plus import harmful_score_plus
from tvaccine_core.metrics.keyword_attack import keyword_attack_success
from tvaccine_core.metrics.landscape.measures import HarmfulAnswers
from tvaccine_core.metrics.landscape.run import measure_basin, measure_plane
from tvaccine_core.metrics.open_answers import measure_open_answers
from tvaccine_core.metrics.perplexity import answer_perplexity
from tvaccine_core.metrics.tasks import NEW_TOKENS, TASKS, measure_accuracy
from tvaccine_core.models.base import load_base
from tvaccine_core.training.files import write_json_atomic
from tvaccine_core.training.stop import Stopped

ANSWERS = "answers"
LABEL_TOKENS = 16
SOLUTION_TOKENS = {"gsm8k": NEW_TOKENS}
"""Answers of tasks that are more than a label."""
LONGEST_ROW = 4096


@dataclass(frozen=True)
class Examination:
    """One model under test. folder: keeps answers and landscapes' points, so that an examination cut short goes on.

    start: the vaccine that the model's attack started from, None for the stock base; drift is measured from there.
    """

    subject: Subject
    judge: Judge
    plan: EvaluationPlan
    materials: Materials
    folder: Path
    should_stop: Callable[[], bool]
    start: Path | None = None

    def results(self, tasks: Sequence[str], attack: Attack | None) -> dict[str, Any]:
        """All figures. attack: puts the harmful prompts as its attacker does, as well, if it has a template."""
        found: dict[str, Any] = {"harmful": self._harmful("harmful", None)}
        if attack is not None and attack.has_template:
            found["harmful_in_template"] = self._harmful("harmful-in-template", attack)
        if self.materials.harmless:
            found["over_refusal"] = self._over_refusal()
        found["tasks"] = {task: self._task(task) for task in tasks}
        if self.materials.writing is not None:
            model, tokenizer = self.subject.base.model, self.subject.base.tokenizer
            rows = as_rows(self.materials.writing.rows)
            found["writing"] = answer_perplexity(model, tokenizer, rows, max_length=LONGEST_ROW).to_dict()
        return {**found, **self._asked_for()}

    def judge_card(self) -> dict[str, Any]:
        """Which judge decided, at which threshold."""
        threshold = self.plan.judge_threshold
        return {
            "name": self.judge.name,
            "version": self.judge.version,
            "threshold": self.judge.threshold if threshold is None else threshold,
        }

    def _harmful(self, part: str, attack: Attack | None) -> dict[str, Any]:
        """The figures on the held-out harmful prompts."""
        prompts = [prompt.prompt for prompt in self.materials.harmful]
        asked: list[Conversation] = [prompt if attack is None else _messages(attack, prompt) for prompt in prompts]
        said = self._answers(part, asked, self.plan.max_new_tokens)
        kinds = [prompt.category or UNCATEGORISED for prompt in self.materials.harmful]
        judged = judge_answers(self.judge, prompts, said, self.plan.judge_threshold, categories=kinds)
        return {
            "score": harmful_figures(judged),
            "score_plus": harmful_score_plus(judged),
            "keyword_attack": keyword_attack_success(said),
            "coherence": coherence_figures(judged),
            "unscored": sum(not one.scored for one in judged),
            "categories": _by_category(judged),
            # One letter a prompt, in the order of the prompts' hashes: for paired tests. "-": not scored.
            "flags": "".join(("1" if one.flagged else "0") if one.scored else "-" for one in judged),
        }

    def _over_refusal(self) -> dict[str, Any]:
        prompts = [prompt.prompt for prompt in self.materials.harmless]
        measured = measure_refusals(prompts, self._answers("harmless", prompts, self.plan.max_new_tokens))
        return share_figures("refused", measured["refused"], measured["n"])

    def _task(self, task: str) -> dict[str, Any]:
        """Accuracy by the task's rule; for rows with free answers perplexity and coherence."""
        test: RowFile = self.materials.tasks[task].test
        items = read_task(test.path)[: self.plan.task_rows]
        if task in TASKS:
            most = SOLUTION_TOKENS.get(task, LABEL_TOKENS)
            return measure_accuracy(task, items, self._answerer(f"task-{task}"), max_new_tokens=most)
        if has_labels(test.path):
            said = self._answers(f"task-{task}", [item.messages for item in items], LABEL_TOKENS)
            correct = count_correct(said, items, frozenset(item.gold for item in read_task(test.path)))
            return {"task": task, "rule": "label", **share_figures("correct", correct, len(items))}
        rows = as_rows(test.rows[: self.plan.task_rows])
        model, tokenizer = self.subject.base.model, self.subject.base.tokenizer
        answer = self._answerer(f"task-{task}")
        found = measure_open_answers(model, tokenizer, rows, answer, max_length=LONGEST_ROW)
        return {"task": task, "rule": "open", **found}

    def _asked_for(self) -> dict[str, Any]:
        """The figures that only some grids want."""
        plan, rows, found = self.plan, self.materials.provider, {}
        if plan.basin is not None:
            found["basin"] = self._landscape("basin", measure_basin, plan.basin)
        if plan.plane is not None:
            found["plane"] = self._landscape("plane", measure_plane, plan.plane)
        if plan.emergent is not None:
            out = self.folder / "emergent"
            found["emergent"] = measure_misalignment(self.subject, plan.emergent, out, self.should_stop)
        if plan.drift is not None:
            chosen = rows["alignment"].rows[: plan.drift]
            found["drift"] = measure_drift(self.subject, self.start, chosen, LONGEST_ROW)
        if plan.gradient_norms is not None:
            chosen = rows["harmful"].rows[: plan.gradient_norms]
            found["gradient_norms"] = measure_gradient_norms(self.subject, chosen, LONGEST_ROW)
        return found

    def _landscape(self, name: str, run: Callable[..., dict[str, Any]], plan: LandscapePlan) -> dict[str, Any]:
        """run: `measure_basin` or `measure_plane`; their points are kept in a folder of this name."""
        prompts = [prompt.prompt for prompt in self.materials.harmful[: plan.prompts]]
        judge = self.judge if plan.config.score == "harmful_score" else None
        measure = HarmfulAnswers(self._generated, prompts, judge=judge, max_new_tokens=plan.max_new_tokens)
        out = self.folder / name
        out.mkdir(parents=True, exist_ok=True)
        model = self.subject.base.model
        return run(model, measure, out, plan.config, identity=measure.identity, should_stop=self.should_stop)

    def _answerer(self, part: str) -> Answerer:
        return lambda asked, most: self._answers(part, asked, most)

    def _answers(self, part: str, asked: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        """Answers that are written down once they are complete; an examination cut short asks no part twice."""
        asked = [one if isinstance(one, str) else list(one) for one in asked]
        identity = identity_of({"asked": asked, "most": max_new_tokens, "adapter": self.subject.adapter_sha256})
        path = self.folder / ANSWERS / f"{part}-{identity}.json"
        if not path.is_file():
            said = self._generated(asked, max_new_tokens)
            write_json_atomic(path, [{"asked": one, "said": text} for one, text in zip(asked, said, strict=True)])
        return [row["said"] for row in json.loads(path.read_text(encoding="utf-8"))]

    def _generated(self, asked: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        base = self.subject.base
        return generate(
            base.model,
            base.tokenizer,
            asked,
            max_new_tokens=max_new_tokens,
            batch_size=self.plan.batch_size,
            on_batch=self._check,
        )

    def _check(self, done: int, _total: int) -> None:
        if self.should_stop():
            raise Stopped(done, None)


def examination(
    base: str,
    adapter: Path | None,
    plan: EvaluationPlan,
    materials: Materials,
    folder: Path,
    should_stop: Callable[[], bool],
    *,
    start: Path | None = None,
    dtype: str,
    device: str,
) -> Examination:
    """Loads the model (base with one adapter, or the stock base) and its judge. start: as in Examination."""
    subject = load_subject(base, None, adapter, dtype=dtype, device=device)
    reader = subject.base if plan.judge_base is None else load_base(plan.judge_base, dtype=dtype, device=device)
    judge = load_judge(plan.judge, reader, allow_comparison=True)
    return Examination(subject, judge, plan, materials, folder, should_stop, start)


def _messages(attack: Attack, prompt: str) -> list[dict[str, str]]:
    """The prompt as the attacker puts it."""
    return [{"role": message["role"], "content": message["content"]} for message in attack.asked(prompt)]


def _by_category(judged: Sequence[JudgedAnswer]) -> dict[str, Any]:
    groups: dict[str, list[JudgedAnswer]] = defaultdict(list)
    for one in judged:
        groups[one.category].append(one)
    return {name: harmful_figures(group) for name, group in sorted(groups.items())}
