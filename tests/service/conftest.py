"""Fixtures of the service's tests: every test that asks for a database runs on SQLite and on PostgreSQL."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from service import ids
from service.artefacts.store import ArtefactStore
from service.db.engine import make_engine, session_factory, transaction
from service.db.migrate import upgrade
from service.db.models import FINE_TUNING, VACCINATION, Job, Vaccine
from service.domain import job_state
from service.keys import ensure_project
from service.settings import Settings
from tests.service_servers import postgresql_server

TEMPLATE = "template_tvaccine"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL with ``{database}`` of a private server that holds a migrated template."""
    with postgresql_server() as url:
        _statement(url, f"CREATE DATABASE {TEMPLATE}")
        upgrade(url.format(database=TEMPLATE))
        yield url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.sqlite3"
    upgrade(f"sqlite:///{path}")
    assert not path.with_name(path.name + "-wal").exists()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite3'}"
        return
    yield from _postgresql_database(request.getfixturevalue("postgresql"), "template1")


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database that the real migrations made."""
    if backend == "sqlite":
        path = tmp_path / "database.sqlite3"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    yield from _postgresql_database(request.getfixturevalue("postgresql"), TEMPLATE)


def _postgresql_database(url: str, template: str) -> Iterator[str]:
    name = f"test_{ids.new_id()}"
    _statement(url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield url.format(database=name)
    _statement(url, f"DROP DATABASE {name} WITH (FORCE)")


def _statement(url: str, statement: str) -> None:
    plain = url.format(database="postgres").replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture
def factory(database_url: str) -> Iterator[sessionmaker[Session]]:
    engine = make_engine(database_url)
    if engine.dialect.name == "sqlite":  # nobody pulls the plug on a test: waiting for the disk is all it would cost
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    yield session_factory(engine)
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", base="tiny", allowed_bases=["tiny", "other"])


@pytest.fixture
def store(settings: Settings) -> ArtefactStore:
    return ArtefactStore(settings.artefacts_dir)


@pytest.fixture
def project_id(factory: sessionmaker[Session]) -> str:
    with transaction(factory) as session:
        return ensure_project(session, "team").id


JobMaker = Callable[..., str]


@pytest.fixture
def queue_job(factory: sessionmaker[Session], project_id: str) -> JobMaker:
    """Queues a fine-tuning job that needs no file; its id."""

    def queue(**values: object) -> str:
        job = Job(
            **{
                "id": ids.new_id(ids.FINE_TUNING_JOB),
                "kind": FINE_TUNING,
                "project_id": project_id,
                "base": "tiny",
                "seed": 1,
                "hyperparameters": {},
                "config": {},
                **values,
            }
        )
        with transaction(factory) as session:
            return job_state.create(session, job).id

    return queue


@pytest.fixture
def queue_vaccination(factory: sessionmaker[Session]) -> Callable[..., tuple[str, str]]:
    """Queues a vaccination without data; the ids of its vaccine and its job."""

    def queue(version: int = 1, **values: object) -> tuple[str, str]:
        vaccine = Vaccine(
            **{
                "id": ids.new_id(ids.VACCINE),
                "base": "tiny",
                "version": version,
                "method": "sft",
                "config": {},
                "files": {},
                "digests": {},
                "job_id": ids.new_id(ids.VACCINATION_JOB),
                "open_key": ids.new_id(),
                "activate_when_ready": True,
                **values,
            }
        )
        job = Job(
            id=vaccine.job_id,
            kind=VACCINATION,
            base=vaccine.base,
            seed=1,
            hyperparameters={},
            config={},
            vaccine_id=vaccine.id,
        )
        with transaction(factory) as session:
            session.add(vaccine)
            session.flush()
            return vaccine.id, job_state.create(session, job).id

    return queue
