"""Clear away what ended jobs, deleted files and crashed writers left behind."""

from __future__ import annotations

import logging
import shutil
import threading
import time

from sqlalchemy.orm import Session, sessionmaker

from service.artefacts.store import ArtefactStore
from service.db.engine import make_engine, read_transaction, session_factory
from service.db.repositories.jobs import JobQueueRepository
from service.domain.job_state import TERMINAL
from service.files import purge
from service.settings import Settings
from worker.loop import repeat

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
SCRATCH_KEPT_SECONDS = 24 * 3600.0
"""So long an operator can read the logs of a job whose worker or trainer did not come to a clean end."""


class Housekeeping:
    """Removes bytes nobody can reach any more."""

    def __init__(self, sessions: sessionmaker[Session], settings: Settings) -> None:
        self._sessions = sessions
        self._settings = settings

    def turn(self) -> None:
        """Do what is due now."""
        purge(self._sessions, self._settings)
        ArtefactStore(self._settings.artefacts_dir).sweep_temporary()
        self.clear_scratch()

    def clear_scratch(self, older_than_seconds: float = SCRATCH_KEPT_SECONDS) -> list[str]:
        """Remove scratch directories of jobs that ended a while ago; the jobs' ids."""
        limit = time.time() - older_than_seconds
        cleared = []
        for directory in sorted(self._settings.scratch_dir.glob("*job-*")):
            if self._ended_before(directory.name, limit):
                shutil.rmtree(directory, ignore_errors=True)
                cleared.append(directory.name)
        return cleared

    def _ended_before(self, job_id: str, limit: float) -> bool:
        with read_transaction(self._sessions) as session:
            job = JobQueueRepository(session).get(job_id)
        return job is not None and job.state in TERMINAL and (job.finished_at or 0.0) < limit


def run_housekeeping(settings: Settings, stop: threading.Event) -> None:
    """Keep house until `stop` is set."""
    engine = make_engine(settings.database_url)
    keeper = Housekeeping(session_factory(engine), settings)
    repeat(keeper.turn, every_seconds=EVERY_SECONDS, stop=stop)
