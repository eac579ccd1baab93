"""Policies of the service, run through it: what its gate says to an honest and to a poisoning user under each.

    python -m bench.policies --policy t_vaccine --policy t_vaccine_lisa --out runs/policies

Each policy gets a service of its own (SQLite, one worker) with `TVACCINE_POLICY`, the demo's rows and users, and the
embedded base. The users train at `--multiplier` times the usual learning rate of 2e-4: 2.5 is the middle attack of
docs/results/defences.md. T-Vaccine alone is made with the demo's 120 steps. Writes
OUT/policies.json and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.demo.command import create_key, settings_of
from cli.demo.files import DemoFiles, write_demo_files
from cli.demo.plan import BASE, Plan
from cli.demo.progress import Progress
from cli.demo.service import Running, running_service
from cli.demo.users import JobOutcome, client_for, download_adapter, fine_tune, vaccinate
from service.policies import POLICIES


def run_policy(policy: str, plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """Vaccinate and serve both users under one policy; a row each."""
    folder.mkdir(parents=True)
    files, progress = write_demo_files(plan, folder), Progress()
    settings = settings_of(plan, files) | {"vaccine": {}, "policy": policy}
    with running_service(folder, settings) as running:
        progress.begin(f"{policy}, admin")
        vaccine = vaccinate(client_for(running.url, running.admin_key), progress, plan.vaccine, BASE, method=None)
        if vaccine["state"] != "ready":
            raise SystemExit(f"{policy}: {vaccine.get('error')}")
        return [serve(policy, who, files, plan, folder, running, progress) for who in ("honest", "poisoned")]


def serve(
    policy: str, who: str, files: DemoFiles, plan: Plan, folder: Path, running: Running, progress: Progress
) -> dict[str, Any]:
    """One user's job, from upload to download."""
    progress.begin(f"{policy}, {who}")
    client, started = client_for(running.url, create_key(running, who)), time.monotonic()
    options: dict[str, Any] = {"hyperparameters": plan.fine_tune, "seed": plan.seed}
    outcome = fine_tune(client, progress, getattr(files, who), files.held_out, BASE, **options)
    seconds = time.monotonic() - started
    adapter = download_adapter(client, outcome.job_id, folder / f"{who}.zip")
    safety: dict[str, Any] = (client.fine_tuning.jobs.retrieve(outcome.job_id).model_extra or {})["safety"]
    return row(policy, who, outcome, adapter) | {"seconds": round(seconds), "defences": safety["defences"]}


def row(policy: str, who: str, outcome: JobOutcome, adapter: str) -> dict[str, Any]:
    """What the job's safety report says; percentages. Fields of a job that was never scored are None."""
    report = outcome.safety
    failed = [check["name"] for check in report.get("checks", []) if not check["passed"]]
    return {
        "policy": policy,
        "user": who,
        "status": outcome.status,
        "error": outcome.error_code,
        "adapter": adapter.split(":")[0],
        "harmful": report.get("harmful_score"),
        "benign_refused": (report.get("refusal") or {}).get("percent"),
        "accuracy": (report.get("task") or {}).get("accuracy"),
        "failed_checks": failed,
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """A line a job."""
    lines = [
        "| policy | user | harmful score | harmless refused | accuracy | adapter | failed checks |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        shares = ["" if one[key] is None else f"{one[key]:.0f} %" for key in ("benign_refused", "accuracy")]
        cells = [
            one["policy"],
            one["user"],
            _interval(one["harmful"]),
            *shares,
            one["adapter"],
            ", ".join(one["failed_checks"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(score: Mapping[str, float] | None) -> str:
    return "not scored" if score is None else f"{score['percent']:.0f} % ({score['low']:.0f} to {score['high']:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", action="append", choices=list(POLICIES), help="default: all of them")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--multiplier", type=float, default=2.5)
    asked = parser.parse_args()
    fine_tune_as = {"n_epochs": 1, "learning_rate_multiplier": asked.multiplier}
    # The policy says how many steps; T-Vaccine's are the demo's.
    plan = replace(Plan(), vaccine={}, fine_tune=fine_tune_as)
    rows: list[dict[str, Any]] = []
    for policy in asked.policy or POLICIES:
        own = replace(plan, vaccine=Plan().vaccine) if policy == "t_vaccine" else plan
        rows += run_policy(policy, own, (asked.out / policy).absolute())
        (asked.out / "policies.json").write_text(json.dumps(rows, indent=1), "utf-8")
    print(markdown(rows))


if __name__ == "__main__":
    main()
