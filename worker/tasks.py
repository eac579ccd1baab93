"""The one task: work on a job. Its message carries nothing but the job's id."""

from __future__ import annotations

import logging
import socket
from functools import lru_cache
from typing import Any

from celery import Task, shared_task
from celery.signals import worker_init

from service.db.engine import make_engine, session_factory, transaction
from service.domain import job_state
from service.settings import get_settings
from worker.app import RUN_JOB
from worker.execution import run_claimed
from worker.runtime import Runtime

logger = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def _runtime(owner: str) -> Runtime:
    """This process's runtime, made at its first task and so after the pool's fork."""
    return Runtime.open(get_settings(), owner)


@shared_task(name=RUN_JOB, bind=True, ignore_result=True)
def run_job(self: Task, job_id: str) -> None:
    """Claim the job and work on it. A message for a job that is not queued (any more) does nothing."""
    run_claimed(_runtime(self.request.hostname or socket.gethostname()), job_id)


def take_back_jobs(sender: Any, **_: Any) -> None:
    """Queue the jobs that this worker had in an earlier life, without waiting for their leases to run out."""
    settings = get_settings()
    engine = make_engine(settings.database_url)
    try:
        with transaction(session_factory(engine)) as session:
            reaped = job_state.reap_owned(session, str(sender.hostname), settings.max_attempts)
    except Exception:
        logger.exception("jobs of an earlier life could not be taken back; their leases will run out")
    else:
        for job_id, outcome in reaped:
            logger.warning("%s was ours before this start: %s", job_id, outcome)
    finally:
        engine.dispose()  # the pool's children make their own connections


worker_init.connect(take_back_jobs, weak=False)
