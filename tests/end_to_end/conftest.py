"""Fixtures of the end-to-end tests."""

import pytest

from tests.end_to_end.tiny_world import TinyWorld, make_tiny_world


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_tiny_world(tmp_path_factory.mktemp("world"))
