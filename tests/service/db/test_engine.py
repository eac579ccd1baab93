import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from service.db.clock import db_now
from service.db.engine import database_url as parse
from service.db.engine import make_engine, read_transaction, session_factory, transaction
from service.db.models import ApiKey, Project
from tvaccine_core.errors import InvalidRequest


def test_the_databases_clock_counts_unix_seconds(factory: sessionmaker[Session]) -> None:
    with transaction(factory) as session:
        first = db_now(session)
        time.sleep(0.02)
        second = db_now(session)
    assert abs(first - time.time()) < 2
    assert 0.01 < second - first < 1  # moves inside a transaction


def test_a_block_that_raises_leaves_nothing(factory: sessionmaker[Session]) -> None:
    def break_off() -> None:
        with transaction(factory) as session:
            session.add(Project(id="proj_1", name="one"))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    with read_transaction(factory) as session:
        assert session.get(Project, "proj_1") is None


def test_a_reading_transaction_cannot_write(factory: sessionmaker[Session]) -> None:
    with read_transaction(factory) as session:
        session.add(Project(id="proj_1", name="one"))
        with pytest.raises(DBAPIError):
            session.flush()
    with transaction(factory) as session:  # the same pooled connection can write again
        session.add(Project(id="proj_1", name="one"))
    with read_transaction(factory) as session:
        project = session.get(Project, "proj_1")
    assert project is not None
    assert project.name == "one"  # readable after the end


def test_foreign_keys_hold(factory: sessionmaker[Session]) -> None:
    with pytest.raises(IntegrityError), transaction(factory) as session:
        session.add(ApiKey(id="key_1", project_id="proj_none", role="user", prefix="tv-", sha256="0"))


def test_writers_that_read_first_do_not_lock_each_other_out(factory: sessionmaker[Session]) -> None:
    with transaction(factory) as session:
        session.add(Project(id="proj_0", name="0"))

    def count_up(_: int) -> None:
        for _ in range(10):
            with transaction(factory) as session:
                project = session.get(Project, "proj_0", with_for_update=True)
                assert project is not None
                project.name = str(int(project.name) + 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(4)))
    with read_transaction(factory) as session:
        project = session.get(Project, "proj_0")
    assert project is not None
    assert project.name == "40"


def test_sqlite_runs_with_our_pragmas(tmp_path: object) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/sub/one.sqlite3")
    with session_factory(engine)() as session:
        values = [
            session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        ]
    assert values == ["wal", 1, 30_000]
    engine.dispose()


def test_only_databases_that_work_are_accepted() -> None:
    assert parse("postgres://u@h/d").drivername == "postgresql+psycopg"
    assert parse("postgresql://u@h/d").drivername == "postgresql+psycopg"
    for url in ("mysql://u@h/d", "sqlite://", "sqlite:///:memory:", "nonsense"):
        with pytest.raises(InvalidRequest):
            parse(url)
