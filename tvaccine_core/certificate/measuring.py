"""One part of a certificate: a model is attacked, if it is, and measured. Only the figures are kept.

What an attack leaves (a harmful adapter, and answers of one) is removed as soon as the part is measured.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvaccine_core.attacks.attack import Attack
from tvaccine_core.certificate.config import CertificateConfig, SimulatedAttack
from tvaccine_core.certificate.parts import Part
from tvaccine_core.certificate.rows import CertificateFiles, CertificateRows
from tvaccine_core.evaluation.accuracy import has_labels
from tvaccine_core.evaluation.answers import harmful_figures, judge_answers, task_labels
from tvaccine_core.evaluation.bench import Bench
from tvaccine_core.evaluation.config import ScoreConfig
from tvaccine_core.evaluation.judge.loading import load_judge
from tvaccine_core.evaluation.run import score
from tvaccine_core.evaluation.subject import load_subject
from tvaccine_core.evaluation.triggers import read_rows
from tvaccine_core.finetuning.results import COMBINED
from tvaccine_core.finetuning.run import fine_tune
from tvaccine_core.training.checkpoints import latest_checkpoint
from tvaccine_core.training.files import write_json_atomic, write_text_atomic

FIGURES, WORK = "figures.json", "work"
ROWS, REPORT = "rows.jsonl", "report.json"


@dataclass(frozen=True)
class Site:
    """Where and how the parts of one certificate are measured."""

    base: str
    vaccine_dir: Path
    config: CertificateConfig
    files: CertificateFiles
    rows: CertificateRows
    judge: str | None
    should_stop: Callable[[], bool]
    dtype: str
    device: str

    @property
    def place(self) -> dict[str, Any]:
        """Arguments that every run of the core takes."""
        return {"should_stop": self.should_stop, "dtype": self.dtype, "device": self.device}

    def measure(self, part: Part, folder: Path) -> None:
        """Leaves `figures.json` in `folder`. A part that was interrupted there goes on where it was.

        Raises what `fine_tune` and `score` raise.
        """
        started = time.monotonic()
        work = folder / WORK
        work.mkdir(parents=True, exist_ok=True)
        tuned = self._attack(part.attack, part.vaccinated, work) if part.attack else None
        report = self._score(part, tuned, work)
        figures: dict[str, Any] = {
            "harmful_score": {**report["harmful_score"], "unscored": report["unscored"]["n"]},
            "as_attacker": None,
            "coherence": {name: report["coherence"][name] for name in ("percent", "n")},
            "over_refusal": {name: report["over_refusal"][name] for name in ("percent", "low", "high", "refused", "n")},
            "task": report["task"],
            "training": None,
            "judge": report["judge"],
        }
        if part.attack is not None and tuned is not None:
            figures["training"] = self._told(part.attack, tuned)
            if part.attack.attack.has_template:
                figures["as_attacker"] = self._ask(part.attack.attack, tuned, report["answers"], work)
        write_json_atomic(folder / FIGURES, {**figures, "seconds": round(time.monotonic() - started, 3)})
        shutil.rmtree(work)

    def _attack(self, attack: SimulatedAttack, vaccinated: bool, work: Path) -> Path:
        """Trains on the attack's rows; the directory of the run."""
        rows, out = work / ROWS, work / "tuned"
        if (out / REPORT).is_file():
            return out
        write_text_atomic(rows, "".join(json.dumps(row) + "\n" for row in self.rows.of(attack)))
        vaccine = self.vaccine_dir if vaccinated else None
        resume_from = latest_checkpoint(out / "checkpoints")
        fine_tune(
            self.base, vaccine, rows, out, self.config.training(attack), resume_from=resume_from, **self.place
        )  # fmt: skip
        return out

    def _score(self, part: Part, tuned: Path | None, work: Path) -> dict[str, Any]:
        """The report of the scoring, with all answers; it stays in the part's working directory.

        It knows the rows that were trained on, as the gate does, and so their labels: one of these helps nobody.
        """
        out = work / "score"
        if not (out / REPORT).is_file():
            score(
                self.base,
                self.files.prompts,
                out,
                self._rule(),
                adapter_dir=None if tuned is None else tuned / COMBINED,
                vaccine_dir=self.vaccine_dir if part.vaccinated and tuned is None else None,
                benign_file=self.files.benign,
                task_file=self.files.heldout if has_labels(self.files.heldout) else None,
                training_file=None if tuned is None else work / ROWS,
                judge=self.judge,
                **self.place,
            )
        report: dict[str, Any] = json.loads((out / REPORT).read_text(encoding="utf-8"))
        return report

    def _rule(self) -> ScoreConfig:
        config = self.config
        return ScoreConfig(
            skip_gate=True,
            batch_prompts=1,
            cap=config.prompts,
            composed_share=self.rows.asked.share,
            benign_prompts=config.benign_prompts,
            max_new_tokens=config.max_new_tokens,
            seed=config.seed,
            judge_threshold=config.judge_threshold,
        )

    def _ask(self, attack: Attack, tuned: Path, plain: list[dict[str, Any]], work: Path) -> dict[str, Any]:
        """The harmful score when the prompts of the plain answers are put as the attacker puts them."""
        out = work / "asked"
        out.mkdir(exist_ok=True)
        subject = load_subject(self.base, None, tuned / COMBINED, dtype=self.dtype, device=self.device)
        judge = load_judge(self.judge, subject.base)
        bench = Bench(subject.base.model, subject.base.tokenizer, out, self.should_stop)
        prompts = [one["prompt"] for one in plain]
        asked = [[{"role": m["role"], "content": m["content"]} for m in attack.asked(prompt)] for prompt in prompts]
        said = bench.answer(asked, self.config.max_new_tokens, "asked")
        threshold = self.config.judge_threshold
        labels = task_labels(read_rows(work / ROWS), judge, threshold)
        answers = judge_answers(
            judge, prompts, said, threshold, lambda _done, _total: bench.check_stop(), labels=labels
        )  # fmt: skip
        return {**harmful_figures(answers), "unscored": sum(not answer.scored for answer in answers)}

    def _told(self, attack: SimulatedAttack, tuned: Path) -> dict[str, Any]:
        report = json.loads((tuned / REPORT).read_text(encoding="utf-8"))
        rows = {"rows": attack.attack.n, "harmful": attack.attack.poisoned}
        return {**rows, "steps": report["steps"], "train_loss": report["train_loss"]}
