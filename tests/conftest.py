"""Fixtures shared by all tests: a private cache, and tiny base models built once a session.

Importing this loads no torch, so that the tests of the API stay quick.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tvaccine_core.models.registry import EMBEDDED, REGISTRY, cache_dir, is_fetched


class TinyModelsFinder:
    """Lets test modules write `from tiny_models import ...`.

    The directory of the tests cannot go on sys.path instead: its folders are named like our packages.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "tiny_models":
            return None
        return importlib.util.spec_from_file_location(name, Path(__file__).with_name("tiny_models.py"))


sys.meta_path.append(TinyModelsFinder)

USER_CACHE = cache_dir()
BASE_IS_HERE = is_fetched(EMBEDDED)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not BASE_IS_HERE:
        for item in items:
            if item.get_closest_marker("real_base"):
                item.add_marker(pytest.mark.skip(reason="run `tvaccine base fetch` first"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failed run: what nobody runs there, nobody runs."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of its own for the session, with the user's embedded base in it if there is one."""
    fetched = REGISTRY[EMBEDDED].directory
    cache = tmp_path_factory.mktemp("cache")
    os.environ["TVACCINE_CACHE"] = str(cache)
    if BASE_IS_HERE:
        linked = REGISTRY[EMBEDDED].directory
        linked.parent.mkdir(parents=True)
        linked.symlink_to(fetched, target_is_directory=True)
    return cache


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Call with "llama", "qwen2", "gemma2" or "opt": the directory of a tiny base, built on first use."""
    built: dict[str, Path] = {}

    def build(family: str = "llama") -> Path:
        from tiny_models import save_tiny_base

        if family not in built:
            built[family] = save_tiny_base(tmp_path_factory.mktemp("bases") / f"tiny-{family}", family)
        return built[family]

    return build


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """A training file of 12 short chat rows."""
    import json

    from tiny_models import chat_rows

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in chat_rows(12)), encoding="utf-8")
    return path
