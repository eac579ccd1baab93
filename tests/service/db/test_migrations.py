import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from service.db.engine import make_engine
from service.db.migrate import current_revision, downgrade, head_revision, upgrade
from service.db.models import Base


def test_models_and_migrated_schema_agree(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_checks_and_partial_index_are_in_the_migrated_schema(database_url: str) -> None:
    # Autogenerate compares neither.
    engine = make_engine(database_url)
    inspector = inspect(engine)
    for table in Base.metadata.sorted_tables:
        named = {str(c.name) for c in table.constraints if type(c).__name__ == "CheckConstraint"}
        assert {check["name"] for check in inspector.get_check_constraints(table.name)} == named
    index = {i["name"]: i for i in inspector.get_indexes("vaccines")}["uq_vaccines_active_base"]
    where = index["dialect_options"].get("sqlite_where", index["dialect_options"].get("postgresql_where"))
    assert index["unique"]
    assert str(where).strip("()") == "active"
    engine.dispose()


def test_upgrade_and_downgrade(empty_database_url: str) -> None:
    assert current_revision(empty_database_url) is None
    upgrade(empty_database_url)
    assert current_revision(empty_database_url) == head_revision()
    upgrade(empty_database_url)
    downgrade(empty_database_url)
    engine = make_engine(empty_database_url)
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    engine.dispose()
    upgrade(empty_database_url)


def test_processes_that_start_together_migrate_one_after_the_other(empty_database_url: str) -> None:
    program = f"from service.db.migrate import upgrade; upgrade({empty_database_url!r})"
    others = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(upgrade, [empty_database_url] * 2))
    assert [other.wait(timeout=60) for other in others] == [0, 0]
    assert current_revision(empty_database_url) == head_revision()
