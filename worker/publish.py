"""Send wake-ups to the workers, without ever waiting long for a broker that does not answer."""

from __future__ import annotations

from celery import Celery

from service.settings import Settings
from worker.app import QUEUE, RUN_JOB, SOCKET_SECONDS, make_app, transport_options


class CeleryPublisher:
    """Publishes job ids; each call takes seconds at most and raises when the broker is away."""

    def __init__(self, settings: Settings, app: Celery | None = None) -> None:
        self._app = app or make_app(settings)
        # kombu retries a connection for ever unless its transport is told otherwise.
        self._options = {
            **transport_options(settings),
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.2,
            "connect_retries_timeout": SOCKET_SECONDS,
        }

    def publish(self, job_id: str) -> None:
        """Wake a worker for `job_id`.

        Raises:
            kombu.exceptions.OperationalError: the broker does not answer.
        """
        with self._app.connection_for_write(transport_options=self._options) as connection:
            self._app.send_task(RUN_JOB, args=[job_id], queue=QUEUE, connection=connection, retry=False)
