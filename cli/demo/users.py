"""The demo's users: each talks to the service with the official `openai` client and nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.demo.progress import Progress

if TYPE_CHECKING:
    from openai import OpenAI

ENDED = {"succeeded", "failed", "cancelled"}
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class JobOutcome:
    """How a user's job ended: public status, error code, and its score report as the user may see it."""

    job_id: str
    status: str
    error_code: str | None
    safety: dict[str, Any]


def client_for(url: str, key: str) -> OpenAI:
    """The official client, pointed at the service."""
    from openai import OpenAI

    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=3)


def vaccinate(
    client: OpenAI, progress: Progress, config: dict[str, Any], base: str, *, method: str | None = "t_vaccine"
) -> dict[str, Any]:
    """Ask for a vaccination as the admin and wait for it; returns the vaccine as the service shows it.

    method: None leaves it to the service's policy.
    """
    body: dict[str, Any] = {"base": base, "method": method, "config": config, "activate": True}
    vaccine = client.post("/admin/vaccinations", body=body, cast_to=dict[str, Any])
    while vaccine["state"] == "making":
        progress.show("vaccinating", vaccine.get("progress"))
        time.sleep(POLL_SECONDS)
        vaccine = client.get(f"/admin/vaccinations/{vaccine['id']}", cast_to=dict[str, Any])
    return vaccine


def fine_tune(
    client: OpenAI, progress: Progress, training: Path, validation: Path, base: str, **options: Any
) -> JobOutcome:
    """Upload, create a job, poll it to its end and fetch its safety report."""
    uploads = [client.files.create(file=path, purpose="fine-tune") for path in (training, validation)]
    job = client.fine_tuning.jobs.create(
        model=base, training_file=uploads[0].id, validation_file=uploads[1].id, **options
    )
    while job.status not in ENDED:
        state: dict[str, Any] = (job.model_extra or {}).get("progress") or {}
        progress.show(str(state.get("stage") or job.status), state)
        time.sleep(POLL_SECONDS)
        job = client.fine_tuning.jobs.retrieve(job.id)
    safety = client.get(f"/fine_tuning/jobs/{job.id}/safety", cast_to=dict[str, Any])
    code = job.error.code if job.error and job.error.code else None
    return JobOutcome(job.id, job.status, code, safety["report"] or {})


def download_adapter(client: OpenAI, job_id: str, target: Path) -> str:
    """Try to download the job's adapter; returns what came of it in words."""
    from openai import PermissionDeniedError

    try:
        content = client.get(f"/fine_tuning/jobs/{job_id}/adapter", cast_to=bytes)
    except PermissionDeniedError as refused:
        return f"refused: HTTP {refused.status_code} {refused.code}"
    target.write_bytes(content)
    return f"released: {target.name}, {len(content) / 1e6:.1f} MB"
