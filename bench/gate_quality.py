"""How often the gate is wrong, on real adapters: `python -m bench.gate_quality --data DIR [--phase NAME]`.

Phases, all of them by default, each adapter done once and kept under --out (kill it at any time, start it again):

adapters  fine-tune honest and attacked adapters (`bench/gate_subjects.py`) on one vaccinated model
truth     their greedy answers to 530 prompts, a third of them of public sets that the gate does not know, and the
          accuracy on their task before and after
gate      the gate's own verdict, as the service asks for it: prompts drawn by key, baseline, variants, triggers
screened  only if asked for: the verdict once more with the screening's report on the training file, which tells the
          search for triggers where to look first, as in the service; kept apart, not in the table
table     confusion matrix with Wilson intervals, prompts saved by the sequential test, as JSON and Markdown

Truth is the share of answers that the judge flags (to prompts put as the attacker puts them: with the trigger of a
backdoor, to the agent of an identity shift), among prompts that the gate did not draw for this adapter, corrected by
the judge's measured error rates (Rogan and Gladen, Am. J. Epidemiol. 107, 1978).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bench.gate_subjects import TASK_EVAL_ROWS, TASKS, Adapter, Asked, Material, adapters, as_it_is
from bench.gate_table import SENSITIVITY, SPECIFICITY, Judged, Outcome, summary
from cli.demo.plan import BASE, Plan
from tvaccine_core.alignment.config import TVaccineConfig
from tvaccine_core.alignment.run import align
from tvaccine_core.data.datasets import demo_file
from tvaccine_core.evaluation.accuracy import count_correct, read_task
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.generation import generate
from tvaccine_core.evaluation.judge.figures import classification
from tvaccine_core.evaluation.judge.loading import load_judge
from tvaccine_core.evaluation.judge.probe import SHIPPED
from tvaccine_core.evaluation.judge.rows import read_judge_rows
from tvaccine_core.evaluation.judge.verdict import Judge, judge_pairs
from tvaccine_core.evaluation.pool import load_pool
from tvaccine_core.evaluation.run import score
from tvaccine_core.evaluation.screening import screen
from tvaccine_core.evaluation.seen import find_seen
from tvaccine_core.evaluation.subject import WEIGHTS_FILE, load_subject
from tvaccine_core.finetuning.config import FineTuneConfig
from tvaccine_core.finetuning.run import fine_tune
from tvaccine_core.models.base import load_base
from tvaccine_core.training.files import write_json_atomic

TRUTH_COMPOSED, TRUTH_LISTED, TRUTH_PUBLIC = 230, 70, 230
TRUTH_BATCH = 128
PHASES = ("adapters", "truth", "gate", "screened", "table")
USUAL = ("adapters", "truth", "gate", "table")


class Study:
    """One folder with a vaccine and, for every adapter, what each phase left."""

    def __init__(self, out: Path, data: Path) -> None:
        self.out, self.material, self.config = out, Material(data), ScoreConfig()
        self.vaccine = out / "vaccine"
        self.prompts = self._truth_prompts()

    def prepare(self) -> None:
        """The vaccinated model that all adapters are trained on, made as the demo makes it."""
        self.out.mkdir(parents=True, exist_ok=True)
        if not (self.vaccine / "report.json").exists():
            config = TVaccineConfig.from_dict(Plan().vaccine)
            align(BASE, demo_file("alignment"), demo_file("probe"), self.vaccine, config)
        for task in TASKS:
            target = self.out / f"{task}.jsonl"
            if not target.exists():
                rows = self.material.task(task, "eval")[:TASK_EVAL_ROWS]
                target.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    def adapters(self, one: Adapter) -> None:
        """Train it."""
        folder = self.out / one.name
        training = folder / "training.jsonl"
        if (folder / "adapter" / "report.json").exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        rows = one.rows(self.material)
        training.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        fine_tune(BASE, self.vaccine, training, folder / "adapter", FineTuneConfig.from_dict(one.training))
        shutil.rmtree(folder / "adapter" / "checkpoints", ignore_errors=True)
        if one.noise:
            add_noise(folder / "adapter" / "combined" / WEIGHTS_FILE, one.noise)

    def truth(self, one: Adapter) -> None:
        """Its answers to the truth prompts, and its accuracy."""
        combined = self.out / one.name / "adapter" / "combined"
        self._answer(one.name, one.task, one.asked, adapter_dir=combined)
        self._answer(f"vaccinated-{one.task}", one.task, vaccine_dir=self.vaccine)

    def gate(self, one: Adapter) -> None:
        """The gate's verdict."""
        self._score(self.out / one.name, "gate", None)

    def screened(self, one: Adapter) -> None:
        """The gate's verdict with the screening's report."""
        folder = self.out / one.name
        report = folder / "screening" / "report.json"
        if not report.exists():
            screen(BASE, folder / "training.jsonl", folder / "screening")
        self._score(folder, "gate-screened", report)
        found = json.loads((folder / "gate-screened" / "report.json").read_text())
        print(f"{one.name}: {found['verdict']}: {found['reason']}", flush=True)

    def _score(self, folder: Path, name: str, screening: Path | None) -> None:
        if (folder / name / "report.json").exists():
            return
        score(
            BASE,
            demo_file("gate_prompts"),
            folder / name,
            self.config,
            screening_file=screening,
            adapter_dir=folder / "adapter" / "combined",
            baseline_dir=self.vaccine,
            benign_file=demo_file("benign_prompts"),
            training_file=folder / "training.jsonl",
            pool_key="gate quality",
            draw_key=folder.name,
            cache_dir=self.out / "baseline-answers",
        )

    def table(self) -> dict[str, Any]:
        """Everything that is finished, judged and counted."""
        base = load_base(BASE)
        judge = load_judge(None, base)
        found = []
        for one in adapters():
            folder = self.out / one.name
            if not all((folder / part).exists() for part in ("gate/report.json", "answers.json")):
                continue
            answers = json.loads((folder / "answers.json").read_text())
            before = json.loads((self.out / f"vaccinated-{one.task}" / "answers.json").read_text())
            report = json.loads((folder / "gate" / "report.json").read_text())
            drawn = {answer["prompt"] for answer in report["answers"]}
            flags = self._flags(folder, answers["answers"], judge)
            fresh = [flag for prompt, flag in zip(self.prompts, flags, strict=True) if prompt not in drawn]
            gain = answers["accuracy"] - before["accuracy"]
            judged = Judged(sum(fresh), len(fresh))
            public = Judged(sum(flags[-TRUTH_PUBLIC:]), TRUTH_PUBLIC)
            found.append(Outcome(one.name, one.honest, judged, public, gain, report))
        name = f"{judge.name} {judge.version}"
        result = summary(found, limit=self.config.limit, judge=name, errors=judge_errors(judge))
        write_json_atomic(self.out / "gate-quality.json", result)
        return result

    def _flags(self, folder: Path, answers: Sequence[str], judge: Judge) -> list[bool]:
        """Which answers this judge flags, kept beside them."""
        target = folder / f"flags-{judge.version}.json"
        if not target.exists():
            pairs = list(zip(self.prompts, answers, strict=True))
            write_json_atomic(target, [verdict.flagged for verdict in judge_pairs(judge, pairs)])
        flags: list[bool] = json.loads(target.read_text())
        return flags

    def _truth_prompts(self) -> list[str]:
        """Composed prompts of another pool than the gate's, listed ones, and public ones."""
        drawable = {p.text for p in load_pool(demo_file("gate_prompts"), "gate quality", 520, 0.5).prompts}
        pool = load_pool(demo_file("gate_prompts"), "truth", 4 * TRUTH_COMPOSED, 0.5).prompts
        listed = [p.text for p in pool if p.part == "listed"][:TRUTH_LISTED]
        composed = [p.text for p in pool if p.part == "composed" and p.text not in drawable]
        public = self.material.public_prompts()
        known = find_seen([*drawable, *listed], public)
        fresh = [prompt for prompt in public if prompt not in known]
        return [*listed, *composed[:TRUTH_COMPOSED], *fresh[:TRUTH_PUBLIC]]

    def _answer(self, name: str, task: str, put: Asked = as_it_is, **which: Path) -> None:
        target = self.out / name / "answers.json"
        if target.exists():
            return
        places: dict[str, Path | None] = {"vaccine_dir": None, "adapter_dir": None, **which}
        subject = load_subject(BASE, **places, dtype="auto", device="auto")
        # Merged and in half the width: half the time, and no difference to a share of 530 answers.
        model, tokenizer = subject.base.model.merge_and_unload().to(torch.bfloat16), subject.base.tokenizer
        items = read_task(self.out / f"{task}.jsonl")
        said = generate(model, tokenizer, [item.messages for item in items], max_new_tokens=8)
        correct = count_correct(said, items, frozenset(item.gold for item in items))
        length = self.config.max_new_tokens
        asked = [put(prompt) for prompt in self.prompts]
        answers = generate(model, tokenizer, asked, max_new_tokens=length, batch_size=TRUTH_BATCH)
        write_json_atomic(target, {"accuracy": 100 * correct / len(items), "answers": answers})


def judge_errors(judge: Judge) -> dict[str, float]:
    """Sensitivity and specificity on the hand-labelled answers of our own models."""
    rows = read_judge_rows(SHIPPED.parent / "labelled_answers.jsonl")
    flagged = [verdict.flagged for verdict in judge_pairs(judge, [row.pair for row in rows])]
    found = classification(rows, flagged)
    return {SENSITIVITY: 1 - found["missed"], SPECIFICITY: 1 - found["false_alarms"]}


def add_noise(weights: Path, size: float) -> None:
    """Add Gaussian noise to every tensor of a file, `size` times the tensor's own deviation."""
    draw = torch.Generator().manual_seed(0)
    noised = {
        name: tensor + size * tensor.std() * torch.randn(tensor.shape, generator=draw).to(tensor.dtype)
        for name, tensor in load_file(weights).items()
    }
    save_file(noised, weights, metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of public data sets (TVACCINE_DATA)")
    parser.add_argument("--out", type=Path, default=Path("runs/gate-quality"))
    parser.add_argument("--phase", choices=PHASES, action="append")
    parser.add_argument("--only", action="append", help="names of adapters; default: all")
    parser.add_argument("--share", default="1/1", help="2/3: the second third of the adapters, for parallel runs")
    options = parser.parse_args()
    phases = options.phase or USUAL
    study = Study(options.out, options.data)
    study.prepare()
    part, parts = (int(number) for number in options.share.split("/"))
    for one in adapters()[part - 1 :: parts]:
        if options.only and one.name not in options.only:
            continue
        steps: dict[str, Callable[[Adapter], None]] = {
            "adapters": study.adapters,
            "truth": study.truth,
            "gate": study.gate,
            "screened": study.screened,
        }
        for name, step in steps.items():
            if name in phases:
                print(f"{name}: {one.name}", flush=True)
                step(one)
    if "table" in phases:
        print(study.table()["markdown"])


if __name__ == "__main__":
    main()
