import json
import logging

import pytest
import structlog

from service.logs import configure_logging

KEY = "tv-" + "a1B_" * 11


def test_records_of_both_libraries_are_json_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True)
    structlog.get_logger("service").info("job claimed", job="ftjob-1", header=f"Bearer {KEY}")
    logging.getLogger("library").warning("key %s", KEY)
    try:
        raise ValueError(KEY)
    except ValueError:
        logging.getLogger("library").exception("broke")
    streams = capsys.readouterr()
    records = [json.loads(line) for line in streams.err.splitlines()]
    assert streams.out == ""
    assert [record["event"] for record in records] == ["job claimed", "key tv-***", "broke"]
    assert records[0]["header"] == "Bearer tv-***"
    assert "ValueError" in records[2]["exception"]
    assert KEY not in streams.err


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    configure_logging()
    logging.getLogger("library").info("hello")
    assert capsys.readouterr().err.count("hello") == 1


@pytest.fixture(autouse=True)
def root_logger() -> object:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield None
    root.handlers[:], root.level = before
    structlog.reset_defaults()
