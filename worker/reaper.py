"""Take jobs from workers whose lease ran out, and clear away what ended jobs left behind.

``python -m worker.reaper`` runs it alone; `worker.keeper` runs it together with the dispatcher.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy.orm import Session, sessionmaker

from service.db.clock import db_now
from service.db.engine import make_engine, read_transaction, session_factory, transaction
from service.db.repositories.jobs import JobQueueRepository
from service.domain import job_state
from service.logs import configure_logging
from service.settings import Settings, get_settings
from worker.loop import repeat, until_signalled

logger = logging.getLogger(__name__)

MOST_SECONDS = 5.0


class Reaper:
    """Looks for expired leases."""

    def __init__(self, sessions: sessionmaker[Session], settings: Settings) -> None:
        self._sessions = sessions
        self._max_attempts = settings.max_attempts

    def turn(self) -> int:
        """Reap what has expired; the number of jobs."""
        with read_transaction(self._sessions) as session:
            if not JobQueueRepository(session).expired(db_now(session), limit=1):
                return 0
        with transaction(self._sessions) as session:
            reaped = job_state.reap(session, self._max_attempts)
        for job_id, outcome in reaped:
            logger.warning("the lease of %s ran out: %s", job_id, outcome)
        return len(reaped)


def run_reaper(settings: Settings, stop: threading.Event) -> None:
    """Reap until `stop` is set, at least twice within the shortest time a lease can take."""
    engine = make_engine(settings.database_url)
    reaper = Reaper(session_factory(engine), settings)
    repeat(reaper.turn, every_seconds=min(settings.lease_seconds / 4, MOST_SECONDS), stop=stop)


if __name__ == "__main__":
    configure_logging(json=get_settings().log_json)
    run_reaper(get_settings(), until_signalled())
