"""Things are made once, by one process at a time, and a death while making leaves the next one free to go on."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tvaccine_core.experiments.store import Busy, Store, identity_of

MAKER = """
import sys, time
from pathlib import Path
from tvaccine_core.experiments.store import Store
def make(folder):
    (folder / "half").write_text("done by the first")
    print("making", flush=True)
    time.sleep(600)
Store(Path(sys.argv[1])).obtain("things", {"a": 1}, make)
"""


def test_a_thing_is_made_once_and_its_record_comes_last(tmp_path: Path) -> None:
    store, made = Store(tmp_path), []

    def make(folder: Path) -> Mapping[str, Any]:
        made.append(folder)
        assert store.find(folder) is None
        return {"value": 3}

    first = store.obtain("things", {"b": 2, "a": 1}, make, label="my thing/1")
    again = store.obtain("things", {"a": 1, "b": 2}, make, label="another label")
    assert (first, len(made)) == (again, 1)
    assert first.record == {"identity": {"a": 1, "b": 2}, "value": 3}
    assert first.folder.name == f"my_thing_1-{identity_of({'a': 1, 'b': 2})}"
    assert store.obtain("things", {"a": 2}, make).folder != first.folder


def test_an_attempt_that_fails_leaves_no_record_and_no_lock(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> Mapping[str, Any]:
        (folder / "half").write_text("kept")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.obtain("things", {}, fail)
    found = store.obtain("things", {}, lambda folder: {"half": (folder / "half").read_text()})
    assert found.record["half"] == "kept"


def test_a_killed_process_frees_its_lock_and_a_living_one_keeps_it(tmp_path: Path) -> None:
    maker = subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "making\n"
        with pytest.raises(Busy):
            Store(tmp_path).obtain("things", {"a": 1}, lambda _folder: {})
        os.kill(maker.pid, signal.SIGKILL)
    finally:
        maker.kill()
        maker.wait(timeout=30)
    found = Store(tmp_path).obtain("things", {"a": 1}, lambda folder: {"half": (folder / "half").read_text()})
    assert found.record["half"] == "done by the first"


def test_what_another_made_while_we_waited_is_not_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    thing = store.obtain("things", {"a": 1}, lambda _folder: {"by": "first"})
    record = thing.folder / "record.json"
    text = record.read_text()
    record.unlink()
    lock = tmp_path / "locks" / f"things-{identity_of({'a': 1})}.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Busy):
            store.obtain("things", {"a": 1}, lambda _folder: {"by": "second"})
        record.write_text(text)
    assert store.obtain("things", {"a": 1}, lambda _folder: {"by": "second"}).record["by"] == "first"
