"""Keys are made once, shown once and stored as a digest only."""

import json
from pathlib import Path

from service.db.engine import make_engine, read_transaction, session_factory
from service.keys import authenticate
from tests.cli.test_main import tvaccine


def test_a_created_key_opens_the_door_and_is_stored_nowhere(tmp_path: Path) -> None:
    done = tvaccine("keys", "create", "--project", "team", "--role", "user", "--json", TVACCINE_DATA_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    engine = make_engine(f"sqlite:///{tmp_path / 'tvaccine.sqlite3'}")
    with read_transaction(session_factory(engine)) as session:
        key = authenticate(session, told["api_key"])
    engine.dispose()
    assert key is not None
    assert (key.id, key.role, key.project_id) == (told["id"], "user", told["project_id"])
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or told["api_key"].encode() not in path.read_bytes()


def test_two_keys_of_one_project_and_a_wrong_role(tmp_path: Path) -> None:
    ask = ("keys", "create", "--project", "team", "--json", "--role")
    first, second = (tvaccine(*ask, "admin", TVACCINE_DATA_DIR=str(tmp_path)) for _ in range(2))
    projects = {json.loads(done.stdout)["project_id"] for done in (first, second)}
    assert len(projects) == 1
    assert tvaccine(*ask, "owner", TVACCINE_DATA_DIR=str(tmp_path)).returncode == 2
