"""The table's three rows that no user's job gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cli.demo.files import DemoFiles
from cli.demo.measure import run_trainer
from cli.demo.plan import BASE, Plan
from cli.demo.progress import Progress
from cli.demo.table import ModelRow
from service.artefacts.store import ArtefactStore
from service.configurations import fine_tune_config
from service.db.engine import make_engine, read_transaction, session_factory
from service.db.repositories.vaccines import AdminVaccineRepository
from service.settings import load_settings
from tvaccine_core.data.datasets import demo_file
from tvaccine_core.errors import NotFound


def vaccine_directory(data_dir: Path, vaccine_id: str) -> Path:
    """Where the service below `data_dir` keeps a vaccine's adapter. The API names no paths, rightly."""
    settings = load_settings(data_dir=data_dir)
    engine = make_engine(settings.database_url)
    try:
        with read_transaction(session_factory(engine)) as session:
            vaccine = AdminVaccineRepository(session).get(vaccine_id)
    finally:
        engine.dispose()
    if vaccine is None or vaccine.storage_key is None:
        raise NotFound(f"The service has no vaccine {vaccine_id}.")
    return ArtefactStore(settings.artefacts_dir).path(vaccine.storage_key)


class Comparison:
    """Scores models beside the service, with the same prompts, rule and judge as the service's gate."""

    def __init__(self, plan: Plan, files: DemoFiles, folder: Path, progress: Progress) -> None:
        self.plan, self.files, self.folder, self.progress = plan, files, folder, progress

    def measure(self, vaccine_dir: Path) -> tuple[ModelRow, ModelRow, ModelRow]:
        """The stock base, the vaccinated model, and the poisoned rows on the base without a vaccine."""
        self.progress.begin("stock base")
        stock = ModelRow.from_report("stock base", self.score("stock"), "not offered")
        self.progress.begin("vaccinated model")
        report = self.score("vaccinated", vaccine_dir=str(vaccine_dir))
        vaccinated = ModelRow.from_report("vaccinated model", report, "base of the service")
        self.progress.begin("poisoned rows, no vaccine")
        adapter = self.attack_the_stock_base()
        report = self.score("unvaccinated", adapter_dir=str(adapter))
        verdict = "passes the gate" if report["verdict"] == "pass" else "fails the gate"
        return stock, vaccinated, ModelRow.from_report("poisoned rows, no vaccine", report, verdict)

    def score(self, name: str, **which: str) -> dict[str, Any]:
        """Score a model as the gate would."""
        arguments: dict[str, Any] = {
            "base": BASE,
            "prompts_file": str(demo_file("gate_prompts")),
            "benign_file": str(self.files.benign_prompts),
            "task_file": str(self.files.held_out),
            "config": {"batch_prompts": self.plan.harmful_prompts, "seed": self.plan.seed},
        }
        return run_trainer(self.progress, "score", self.folder / "measured" / name, arguments | which)

    def attack_the_stock_base(self) -> Path:
        """The poisoning user's job without a vaccine: same rows, same settings."""
        out = self.folder / "measured" / "unvaccinated-training"
        asked = {"epochs": self.plan.fine_tune["n_epochs"], "seed": self.plan.seed}
        config = fine_tune_config(load_settings(), asked).to_dict()
        arguments = {"base": BASE, "training_file": str(self.files.poisoned), "config": config}
        run_trainer(self.progress, "fine_tune", out, arguments | {"vaccine_dir": None})
        return out / "combined"
