"""The Celery application: ``celery --app worker.app worker --concurrency 1``.

The database is the truth and a message only a wake-up with a job's id. So messages are acknowledged when a
task starts (a lost one is sent again by the dispatcher, a doubled one finds the job claimed), nothing is kept
of results, and everything is JSON.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import setup_logging

from service.logs import configure_logging
from service.settings import Settings, get_settings

QUEUE = "tvaccine.jobs"
RUN_JOB = "tvaccine.run_job"
SOCKET_SECONDS = 5.0


def make_app(settings: Settings) -> Celery:
    """An application for the broker of `settings`; creates the folders of the filesystem transport."""
    app = Celery("tvaccine", broker=_with_host(settings.broker_url), include=["worker.tasks", "worker.draining"])
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_serializer="json",
        result_accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_default_queue=QUEUE,
        task_create_missing_queues=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=is_redis(settings.broker_url),
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=settings.cancel_grace_seconds + 10.0,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=SOCKET_SECONDS,
        broker_transport_options=transport_options(settings),
    )
    return app


def _with_host(broker_url: str) -> str:
    """The URL as kombu likes it: one without a host makes it warn, also where no host is needed."""
    return "filesystem://localhost//" if broker_url == "filesystem://" else broker_url


def is_redis(broker_url: str) -> bool:
    """Is the broker a Redis server?"""
    return broker_url.split("://")[0] in ("redis", "rediss", "redis+socket")


def transport_options(settings: Settings) -> dict[str, Any]:
    """What kombu's transport of the broker needs to be told."""
    if settings.broker_url.startswith("filesystem"):
        return _filesystem_options(settings)
    if is_redis(settings.broker_url):
        # Without the socket options a send can hang for ever on a dead connection. The visibility timeout
        # only bounds how long a message may lie unacknowledged in a worker's hands: tasks acknowledge at
        # their start.
        return {
            "socket_timeout": SOCKET_SECONDS,
            "socket_connect_timeout": SOCKET_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "retry_on_timeout": False,
            "visibility_timeout": 3600,
        }
    return {}


def _filesystem_options(settings: Settings) -> dict[str, Any]:
    settings.make_directories()
    folders = {name: settings.broker_dir / name for name in ("messages", "control", "processed")}
    for folder in folders.values():
        folder.mkdir(mode=0o700, exist_ok=True)
    return {
        "data_folder_in": str(folders["messages"]),
        "data_folder_out": str(folders["messages"]),
        "control_folder": str(folders["control"]),
        "processed_folder": str(folders["processed"]),
        "store_processed": False,
        "polling_interval": 0.2,
    }


def _log_as_the_service_does(**_: Any) -> None:
    """Connected to the signal with which Celery asks who sets up logging: not Celery."""
    configure_logging(json=get_settings().log_json)


def worker_app() -> Celery:
    """The application of a worker process. Raises InvalidRequest for settings no job could run with."""
    from worker.settings_check import check_settings

    settings = get_settings()
    check_settings(settings)
    setup_logging.connect(_log_as_the_service_does, weak=False)
    return make_app(settings)


def __getattr__(name: str) -> Any:
    """`worker.app.app`, built on first use: importing this module reads no settings and makes no folders."""
    if name in ("app", "celery"):
        globals()["app"] = globals()["celery"] = worker_app()
        return globals()[name]
    raise AttributeError(name)
