"""Publish the wake-ups of queued jobs. The job's row is the outbox: this loop is what empties it.

``python -m worker.dispatcher`` runs it alone; `worker.keeper` runs it together with the reaper.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy.orm import Session, sessionmaker

from service.db.engine import make_engine, read_transaction, session_factory, transaction
from service.db.models import QUEUED, WAITING
from service.db.repositories.jobs import JobQueueRepository
from service.dispatch import Publisher, take_due
from service.logs import configure_logging
from service.settings import Settings, get_settings
from service.vaccines import settle_waiting
from worker.loop import repeat, until_signalled
from worker.publish import CeleryPublisher

logger = logging.getLogger(__name__)

EVERY_SECONDS = 0.5
BATCH = 100


class Dispatcher:
    """Wakes workers for queued jobs, and queues jobs whose vaccine has come."""

    def __init__(self, sessions: sessionmaker[Session], publisher: Publisher, settings: Settings) -> None:
        self._sessions = sessions
        self._publisher = publisher
        self._dispatch_after = settings.dispatch_after_seconds

    def turn(self) -> int:
        """Do what is due now; the number of wake-ups sent."""
        self.settle()
        return self.publish_due()

    def publish_due(self) -> int:
        """Publish the jobs that are due.

        One that cannot be sent is due again after `dispatch_after_seconds`.
        """
        with read_transaction(self._sessions) as session:
            if not JobQueueRepository(session).counts().get(QUEUED):
                return 0  # the usual case costs no write lock
        with transaction(self._sessions) as session:
            due = take_due(session, BATCH, self._dispatch_after)
        for sent, job_id in enumerate(due):
            try:
                self._publisher.publish(job_id)
            except Exception as error:
                # The others would only wait for the same broker. All come again.
                logger.warning("the broker does not take messages (%s); %d wake-ups wait", error, len(due) - sent)
                return sent
        return len(due)

    def settle(self) -> None:
        """Move jobs that wait for a vaccine which is not being made (any more).

        Normally the end of the vaccination does that; a job that was parked in just that moment is found
        here.
        """
        with read_transaction(self._sessions) as session:
            if not JobQueueRepository(session).counts().get(WAITING):
                return
        with transaction(self._sessions) as session:
            settle_waiting(session)


def run_dispatcher(settings: Settings, stop: threading.Event) -> None:
    """Dispatch until `stop` is set."""
    engine = make_engine(settings.database_url)
    dispatcher = Dispatcher(session_factory(engine), CeleryPublisher(settings), settings)
    repeat(dispatcher.turn, every_seconds=EVERY_SECONDS, stop=stop)


if __name__ == "__main__":
    configure_logging(json=get_settings().log_json)
    run_dispatcher(get_settings(), until_signalled())
